// Where the bytes come from: the server, or the exported file itself. Both give the same bytes.

import type { Manifest } from "./manifest";

export interface Source {
  manifest(): Promise<Manifest>;
  bytes(name: string): Promise<Uint8Array<ArrayBuffer>>;
  has(name: string): boolean;
}

export class ServerError extends Error {}

const token = new URLSearchParams(location.search).get("token");

function headers(extra: Record<string, string> = {}): Record<string, string> {
  return { "X-Cytolens": "1", ...(token ? { Authorization: `Bearer ${token}` } : {}), ...extra };
}

async function checked(answer: Response): Promise<Response> {
  if (answer.ok) return answer;
  throw new ServerError((await answer.text()).slice(0, 300) || `the server answers ${answer.status}`);
}

/** Ask the server for something by a relative address; raises ServerError with its words. */
export async function get(address: string, signal?: AbortSignal): Promise<Response> {
  try {
    return await checked(await fetch(address, { headers: headers(), signal }));
  } catch (error) {
    if (error instanceof TypeError) throw new ServerError("the server does not answer; is it still running?");
    throw error;
  }
}

export async function post(address: string, body: unknown): Promise<Response> {
  const raw = body instanceof Blob;
  try {
    return await checked(
      await fetch(address, {
        method: "POST",
        headers: headers({ "Content-Type": raw ? "application/octet-stream" : "application/json" }),
        body: raw ? body : JSON.stringify(body),
      }),
    );
  } catch (error) {
    if (error instanceof TypeError) throw new ServerError("the server does not answer; is it still running?");
    throw error;
  }
}

class Served implements Source {
  async manifest(): Promise<Manifest> {
    return (await (await get("manifest.json")).json()) as Manifest;
  }
  async bytes(name: string): Promise<Uint8Array<ArrayBuffer>> {
    const path = name.split("/").map(encodeURIComponent).join("/");
    return new Uint8Array(await (await get(`part/${path}`)).arrayBuffer());
  }
  has(): boolean {
    return true;
  }
}

class Inlined implements Source {
  private readonly parts = new Map<string, HTMLScriptElement>();

  constructor(private readonly text: string) {
    for (const part of document.querySelectorAll<HTMLScriptElement>("script[data-part]")) {
      this.parts.set(part.dataset.part ?? "", part);
    }
  }
  async manifest(): Promise<Manifest> {
    return JSON.parse(this.text) as Manifest;
  }
  async bytes(name: string): Promise<Uint8Array<ArrayBuffer>> {
    const part = this.parts.get(name);
    if (!part) throw new ServerError("this file does not hold that; open the run with: cytolens explore RUN");
    const packed = fromBase64(part.textContent ?? "");
    if (part.dataset.encoding !== "deflate") return packed;
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }
  has(name: string): boolean {
    return this.parts.has(name);
  }
}

function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

export function openSource(): Source {
  const inlined = document.getElementById("manifest");
  return inlined ? new Inlined(inlined.textContent ?? "") : new Served();
}

/** Arrays and pictures by name, each read once. */
export class Arrays {
  private readonly read = new Map<string, Promise<Uint8Array<ArrayBuffer>>>();
  private readonly done = new Map<string, Uint8Array<ArrayBuffer>>();

  constructor(readonly source: Source) {}

  bytes(name: string): Promise<Uint8Array<ArrayBuffer>> {
    let found = this.read.get(name);
    if (!found) {
      found = this.source.bytes(name).then((bytes) => {
        this.done.set(name, bytes);
        return bytes;
      });
      found.catch(() => this.read.delete(name));
      this.read.set(name, found);
    }
    return found;
  }
  /** What has been read already, without waiting. */
  ready(name: string): Uint8Array<ArrayBuffer> | undefined {
    return this.done.get(name);
  }
}
