/** A typed client of Plimsoll's HTTP API: {@link connect}, and {@link followEvents} for what happens. */

import createClient, { type Client } from 'openapi-fetch';

import type { paths } from './schema.js';

export type * from './schema.js';
export { followEvents, type PlimsollEvent } from './events.js';

export type Plimsoll = Client<paths>;

/**
 * @param url where Plimsoll is, without a path of the API
 * @param token an API token, from `POST /api/v1/tokens`
 */
export function connect(url: string, token: string): Plimsoll {
  return createClient<paths>({
    baseUrl: url.replace(/\/+$/, ''),
    headers: { Authorization: `Bearer ${token}` },
  });
}

/** The answer's body, where it has one, or an error with what Plimsoll says went wrong. */
export function must<T>(answer: { data?: T; error?: unknown; response: Response }): T {
  if (answer.error === undefined && answer.response.ok) return answer.data as T;
  const { error } = (answer.error ?? {}) as { error?: unknown };
  const reason = typeof error === 'string' ? error : answer.response.statusText;
  throw new Error(`${answer.response.status} ${answer.response.url}: ${reason}`);
}
