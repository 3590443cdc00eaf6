// The page's side of the worker.

import type { Arrays } from "../data/source";
import type { FromWorker, ToWorker } from "./messages";

declare const __WORKER__: string;

export interface Drawn {
  id: number;
  milliseconds: number;
  points: number;
  thumbnails: number;
}

export class Raster {
  private readonly worker: Worker;
  private readonly tickets = new Map<number, (cell: number) => void>();
  private readonly known = new Set<string>();
  private ticket = 0;
  onDrawn: (drawn: Drawn) => void = () => undefined;

  constructor(private readonly arrays: Arrays) {
    const address = URL.createObjectURL(new Blob([__WORKER__], { type: "text/javascript" }));
    this.worker = new Worker(address);
    this.worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.answer(data);
  }

  send(message: ToWorker, transfer: Transferable[] = []): void {
    this.worker.postMessage(message, transfer);
  }

  /** Hand the worker a map's coordinates, once. */
  async load(name: string): Promise<void> {
    if (this.known.has(name)) return;
    this.known.add(name);
    const bytes = await this.arrays.bytes(name);
    this.send({ type: "map", name, coordinates: new Uint16Array(bytes.buffer) });
  }

  /** The cell at a pixel of a view; -1 where there is none near. */
  pick(id: number, x: number, y: number, radius: number): Promise<number> {
    const ticket = ++this.ticket;
    return new Promise((resolve) => {
      this.tickets.set(ticket, resolve);
      this.send({ type: "pick", id, x, y, radius, ticket });
    });
  }

  private answer(message: FromWorker): void {
    if (message.type === "picked") {
      this.tickets.get(message.ticket)?.(message.cell);
      this.tickets.delete(message.ticket);
    } else if (message.type === "drawn") {
      this.onDrawn(message);
    } else {
      const { name } = message;
      this.arrays
        .bytes(name)
        .then((bytes) => this.send({ type: "bytes", name, bytes }))
        .catch(() => this.send({ type: "bytes", name, bytes: null }));
    }
  }
}
