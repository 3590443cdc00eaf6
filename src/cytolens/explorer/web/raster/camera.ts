// Where a map is looked at. Map coordinates go from 0 to 65535, y upwards; pixels go down.

export interface Camera {
  x: number; // centre, in map coordinates
  y: number;
  zoom: number; // 1: the whole map fits
}

export const STEPS = 65535;
export const WHOLE: Camera = { x: STEPS / 2, y: STEPS / 2, zoom: 1 };
const FILL = 0.94; // of the shorter side
const DEEPEST = 3000; // 1 step of the coordinates is then about 20 px

/** Pixels per map unit. */
export function scaleOf(camera: Camera, width: number, height: number): number {
  return (camera.zoom * FILL * Math.min(width, height)) / STEPS;
}

export function toScreen(camera: Camera, width: number, height: number, x: number, y: number): [number, number] {
  const scale = scaleOf(camera, width, height);
  return [(x - camera.x) * scale + width / 2, (camera.y - y) * scale + height / 2];
}

export function toMap(camera: Camera, width: number, height: number, px: number, py: number): [number, number] {
  const scale = scaleOf(camera, width, height);
  return [camera.x + (px - width / 2) / scale, camera.y - (py - height / 2) / scale];
}

/** The same with another zoom; what lies under the pointer stays there. */
export function zoomAt(camera: Camera, width: number, height: number, px: number, py: number, factor: number): Camera {
  const zoom = Math.min(DEEPEST, Math.max(0.5, camera.zoom * factor));
  const [x, y] = toMap(camera, width, height, px, py);
  const scale = scaleOf({ ...camera, zoom }, width, height);
  return { x: x - (px - width / 2) / scale, y: y + (py - height / 2) / scale, zoom };
}

export function panBy(camera: Camera, width: number, height: number, dx: number, dy: number): Camera {
  const scale = scaleOf(camera, width, height);
  return keepInside({ ...camera, x: camera.x - dx / scale, y: camera.y + dy / scale });
}

function keepInside(camera: Camera): Camera {
  const hold = (value: number) => Math.min(STEPS, Math.max(0, value));
  return { ...camera, x: hold(camera.x), y: hold(camera.y) };
}
