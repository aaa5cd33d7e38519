// Shows what a container uses and said last, with a token of its own that is gone afterwards:
//
//   PLIMSOLL_URL=http://127.0.0.1:3000 PLIMSOLL_TOKEN=… node look.js NAME

import { connect, must } from 'plimsoll-client';

const name = process.argv[2];
const url = process.env.PLIMSOLL_URL!;
const plimsoll = connect(url, process.env.PLIMSOLL_TOKEN!);

const body = { name: 'look', scopes: ['containers:read' as const] };
const { id: token, token: secret } = must(await plimsoll.POST('/api/v1/tokens', { body }));
const reader = connect(url, secret);

const { data: containers } = must(await reader.GET('/api/v1/containers'));
const container = containers.find((one) => one.name === name);
if (!container) throw new Error(`there is no container ${name}`);
const path = { id: container.id };

const { data: usage } = must(await reader.GET('/api/v1/containers/{id}/stats', { params: { path } }));
console.log(`${usage?.memoryUsageBytes} of ${usage?.memoryLimitBytes} bytes`);

const query = { tail: 1, timestamps: false };
const logs = await reader.GET('/api/v1/containers/{id}/logs', { params: { path, query }, parseAs: 'text' });
console.log(must(logs).trim());

must(await plimsoll.DELETE('/api/v1/tokens/{id}', { params: { path: { id: token } } }));
