// Joins still WebP pictures of one size, as Chromium takes them, into one that moves.
// The format: https://developers.google.com/speed/webp/docs/riff_container

/** A chunk of a RIFF file: its name, its length and its bytes, padded to an even number. */
function chunk(name, ...parts) {
  const bytes = Buffer.concat(parts);
  const head = Buffer.alloc(8);
  head.write(name, "latin1");
  head.writeUInt32LE(bytes.length, 4);
  return Buffer.concat([head, bytes, Buffer.alloc(bytes.length % 2)]);
}

function number(value, bytes) {
  const buffer = Buffer.alloc(bytes);
  buffer.writeUIntLE(value, 0, bytes);
  return buffer;
}

/** The chunks of a still picture that hold its image. */
function image(still) {
  const found = [];
  for (let at = 12; at < still.length;) {
    const length = still.readUInt32LE(at + 4);
    const end = at + 8 + length + (length % 2);
    if (["VP8 ", "VP8L", "ALPH"].includes(still.toString("latin1", at, at + 4))) found.push(still.subarray(at, end));
    at = end;
  }
  return Buffer.concat(found);
}

/** One WebP that shows `frames`, each `{ still, milliseconds }`, again and again. */
export function moving(frames, { width, height }) {
  const canvas = Buffer.concat([number(width - 1, 3), number(height - 1, 3)]);
  const shown = frames.map(({ still, milliseconds }) => {
    // at the top left, and over what was there before
    const head = [Buffer.alloc(6), canvas, number(milliseconds, 3), number(0b10, 1)];
    return chunk("ANMF", ...head, image(still));
  });
  const ANIMATION = 0b10;
  const header = chunk("VP8X", number(ANIMATION, 4), canvas);
  const forEver = chunk("ANIM", number(0xffffffff, 4), number(0, 2));
  return chunk("RIFF", Buffer.from("WEBP"), header, forEver, ...shown);
}
