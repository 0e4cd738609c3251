// Reads the number that numbered.py drew into a picture: pairs of a light and a dark block, for each bit.

/** `level(share)` is the brightness, 0 to 255, at that share of the line of blocks. Null if there is no number. */
function numberIn(bits, level) {
  const light = block => level((block + 0.5) / (2 * bits)) > 128;
  let value = 0;
  for (let bit = 0; bit < bits; bit++) {
    if (light(2 * bit) === light(2 * bit + 1)) return null;
    if (light(2 * bit)) value += 2 ** bit;
  }
  return value;
}
