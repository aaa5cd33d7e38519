import type { Plimsoll } from './index.js';

/** What happened: `type` is such as `dd:container-updated`, `data` is JSON that goes with it. */
export interface PlimsollEvent {
  type: string;
  data: unknown;
}

/** Milliseconds before connecting again, until the server says otherwise. */
const RETRY = 2000;
/** The server sends a heartbeat every 15 seconds: three that are missing mean that it is away. */
const SILENCE = 45_000;

/**
 * Follows what happens, until `signal` aborts or the caller leaves its loop. A connection that ends
 * (a replica is replaced, the network is away) is made again and goes on where the last one ended;
 * after `dd:resync-required` that was not possible, so read again what you rely on. A refusal, such
 * as that of a wrong token, is thrown.
 */
export async function* followEvents(
  client: Plimsoll,
  signal?: AbortSignal,
): AsyncGenerator<PlimsollEvent> {
  const position = { id: '', retry: RETRY };
  while (!signal?.aborted) {
    const answer = await open(client, position.id, signal);
    if (answer && answer.status < 500 && answer.status !== 429) {
      if (!answer.ok || !answer.body) throw new Error(`${answer.status}: ${await answer.text()}`);
      yield* events(answer.body, position);
    } else {
      await answer?.body?.cancel();
    }
    if (!signal?.aborted) await new Promise((resolve) => setTimeout(resolve, position.retry));
  }
}

async function open(client: Plimsoll, lastId: string, signal?: AbortSignal) {
  try {
    const { response, error } = await client.GET('/api/v1/events/ui', {
      parseAs: 'stream',
      signal: signal ?? null,
      params: { header: lastId ? { 'Last-Event-ID': lastId } : {} },
    });
    // The body of a refusal is read already.
    return error === undefined ? response : new Response(JSON.stringify(error), response);
  } catch {
    return undefined; // The network is away.
  }
}

async function* events(
  body: ReadableStream<Uint8Array>,
  position: { id: string; retry: number },
): AsyncGenerator<PlimsollEvent> {
  let type = 'message';
  let data: string[] = [];
  let { id } = position;
  for await (const line of lines(body)) {
    const [, field, value = ''] = /^([^:]*)(?:: ?(.*))?$/s.exec(line) ?? [];
    if (line === '') {
      // Only now: of an event that was cut off nothing has been seen.
      position.id = id;
      if (data.length) yield { type, data: JSON.parse(data.join('\n')) };
      [type, data] = ['message', []];
    } else if (field === 'event') type = value;
    else if (field === 'data') data.push(value);
    else if (field === 'id') id = value;
    else if (field === 'retry' && /^\d+$/.test(value)) position.retry = Number(value);
  }
}

/** What was read, or the end, also where nothing comes for too long. */
async function heard(read: Promise<{ done: boolean; value?: Uint8Array | undefined }>) {
  const end = { done: true, value: undefined };
  let timer: ReturnType<typeof setTimeout> | undefined;
  const silence = new Promise<typeof end>((resolve) => {
    timer = setTimeout(resolve, SILENCE, end);
  });
  return Promise.race([read.catch(() => end), silence]).finally(() => clearTimeout(timer));
}

async function* lines(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = '';
  try {
    for (;;) {
      const { done, value } = await heard(reader.read());
      if (done) return;
      const found = (rest + decoder.decode(value, { stream: true })).split('\n');
      rest = found.pop() ?? '';
      yield* found.map((line) => line.replace(/\r$/, ''));
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
