// Fetches what a package-lock.json names from the npm registry into node_modules, and checks every
// package against its pinned hash. Node itself is enough for this: Debian's npm would bring four
// hundred packages along.
//
//   node scripts/npm-install.mjs DIRECTORY [INTO]     the lock file's, and where node_modules goes

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';

const [from, into = from] = process.argv.slice(2);
const registry = process.env.npm_config_registry ?? 'https://registry.npmjs.org/';
const lock = readFileSync(join(from, 'package-lock.json'));
const stamp = createHash('sha512').update(lock).digest('hex');
const modules = join(into, 'node_modules');
const stampFile = join(modules, '.installed');

if (existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp) process.exit(0);
rmSync(modules, { recursive: true, force: true });

async function install(path, { version, integrity }) {
  const name = path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);
  const url = new URL(`${name}/-/${basename(name)}-${version}.tgz`, registry);
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url} answers ${answer.status}`);
  const archive = Buffer.from(await answer.arrayBuffer());
  const hash = `sha512-${createHash('sha512').update(archive).digest('base64')}`;
  if (hash !== integrity) throw new Error(`${url} is not what package-lock.json names`);
  const target = join(into, path);
  mkdirSync(target, { recursive: true });
  const options = ['-xz', '--strip-components=1', '--no-same-owner', '-C', target];
  const tar = spawnSync('tar', options, { input: archive });
  if (tar.status !== 0) throw new Error(`${url} cannot be unpacked: ${tar.stderr}`);
}

const packages = Object.entries(JSON.parse(lock).packages).filter(([path]) => path !== '');
const queue = packages.values();
const worker = async () => { for (const [path, details] of queue) await install(path, details); };
await Promise.all(Array.from({ length: 8 }, worker));
writeFileSync(stampFile, stamp);
console.log(`installed ${packages.length} packages into ${modules}`);
