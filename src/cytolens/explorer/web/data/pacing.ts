// Long work on the page's own thread, in slices, so that a click or a drag never waits for it.

export const STRIDE = 65_536; // cells between two looks at the clock

const SLICE = 8; // ms

/** Run to the end at once. */
export function finish<T>(work: Generator<void, T>): T {
  for (;;) {
    const step = work.next();
    if (step.done) return step.value;
  }
}

/** Work that is under way: the first slice at once, the others between what the page has to do. */
export class Paced<T> {
  value: T | undefined; // once it is done
  private stopped = false;

  constructor(
    private readonly work: Generator<void, T>,
    private readonly onDone: () => void,
  ) {
    if (!this.slice()) this.later();
  }

  stop(): void {
    this.stopped = true;
  }

  private later(): void {
    setTimeout(() => {
      if (this.stopped) return;
      if (this.slice()) this.onDone();
      else this.later();
    });
  }

  private slice(): boolean {
    const until = performance.now() + SLICE;
    do {
      const step = this.work.next();
      if (!step.done) continue;
      this.value = step.value;
      return true;
    } while (performance.now() < until);
    return false;
  }
}
