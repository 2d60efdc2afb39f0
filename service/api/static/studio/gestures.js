// Hands on the stage: wheel, pinch, drag, double tap and keys change what is seen of the photo.

const STILL = 6; // pixels that a finger may move in a tap
const DOUBLE = 320; // milliseconds between two taps
const STEP = 60; // pixels of an arrow key

/** `handlers` has onTap(x, y), onDoubleTap(x, y) in pixels of the stage, and onKey(key), true if the key was used. */
export function listen(stage, handlers) {
  const { element } = stage;
  const pointers = new Map();
  let moved = 0;
  let pinch = null;
  let lastTap = { at: 0, x: 0, y: 0 };

  const place = (event) => {
    const box = element.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const isPhoto = (event) => event.target.closest("button, input") === null;
  // A finger on the divider moves that; with a second one it pinches, and without moving it taps.
  const isFinger = (event) => event.pointerType === "touch" && event.target.matches("input");
  const spread = () => {
    const [a, b] = [...pointers.values()];
    return { far: Math.hypot(a[0] - b[0], a[1] - b[1]), x: (a[0] + b[0]) / 2, y: (a[1] + b[1]) / 2 };
  };

  element.addEventListener("pointerdown", (event) => {
    if (!(isPhoto(event) || isFinger(event)) || event.button > 0) return;
    if (event.isPrimary) pointers.clear();
    pointers.set(event.pointerId, place(event));
    if (pointers.size === 1) moved = 0;
    if (pointers.size === 2) {
      pinch = spread();
      stage.pinching = true;
    }
  });
  element.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId)) return;
    const [x, y] = place(event);
    const [fromX, fromY] = pointers.get(event.pointerId);
    pointers.set(event.pointerId, [x, y]);
    moved += Math.hypot(x - fromX, y - fromY);
    if (pointers.size === 1 && moved > STILL && isPhoto(event)) {
      element.setPointerCapture(event.pointerId);
      stage.view((viewport) => viewport.pan(x - fromX, y - fromY));
    } else if (pointers.size === 2) {
      const now = spread();
      stage.view((viewport) => {
        viewport.zoomAt(now.far / Math.max(1, pinch.far), now.x, now.y);
        viewport.pan(now.x - pinch.x, now.y - pinch.y);
      });
      pinch = now;
    }
  });
  const end = (event) => {
    if (!pointers.delete(event.pointerId) || pointers.size > 0) return;
    stage.pinching = false;
    if (event.type === "pointercancel" || pinch || moved > STILL) {
      pinch = null;
      return;
    }
    const [x, y] = place(event);
    const second = event.timeStamp - lastTap.at < DOUBLE && Math.hypot(x - lastTap.x, y - lastTap.y) < 30;
    lastTap = second ? { at: 0, x: 0, y: 0 } : { at: event.timeStamp, x, y };
    if (second) handlers.onDoubleTap(x, y);
    else handlers.onTap(x, y);
  };
  element.addEventListener("pointerup", end);
  element.addEventListener("pointercancel", end);

  element.addEventListener(
    "wheel",
    (event) => {
      const zoomsOut = event.deltaY > 0 && stage.viewport.zoom <= 1;
      if (!isPhoto(event) || zoomsOut) return; // the page scrolls
      event.preventDefault();
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 20 : 1;
      stage.view((viewport) => viewport.zoomAt(Math.exp(-0.002 * lines * event.deltaY), ...place(event)));
    },
    { passive: false },
  );

  const keys = {
    "+": (viewport) => viewport.zoomAt(1.25),
    "=": (viewport) => viewport.zoomAt(1.25),
    "-": (viewport) => viewport.zoomAt(0.8),
    ArrowLeft: (viewport) => viewport.pan(STEP, 0),
    ArrowRight: (viewport) => viewport.pan(-STEP, 0),
    ArrowUp: (viewport) => viewport.pan(0, STEP),
    ArrowDown: (viewport) => viewport.pan(0, -STEP),
  };
  element.addEventListener("keydown", (event) => {
    if (event.target !== element || event.ctrlKey || event.metaKey || event.altKey) return;
    const used = keys[event.key] ? (stage.view(keys[event.key]), true) : handlers.onKey(event.key);
    if (used) event.preventDefault();
  });
}
