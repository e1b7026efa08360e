/** Numbers as columns. */
export function Columns({ heights, label }: { heights: readonly number[]; label: string }) {
  const most = Math.max(...heights, 1e-12);
  const wide = 100 / Math.max(1, heights.length);
  return (
    <svg viewBox="0 0 100 40" preserveAspectRatio="none" role="img" aria-label={label}>
      {heights.map((height, i) => {
        const high = height > 0 ? Math.max(1, (40 * height) / most) : 0;
        return <rect key={i} x={i * wide} y={40 - high} width={Math.max(0.2, wide - 0.35)} height={high} />;
      })}
    </svg>
  );
}

/** How often a feature is how strong, where it is active. */
export function Histogram({ counts, maximum }: { counts: readonly number[]; maximum: number }) {
  return (
    <figure class="histogram">
      <Columns heights={counts.map((n) => Math.log1p(n))} label="How often it is how strong; weak activations are to the left" />
      <figcaption class="quiet small number">
        <span>0</span>
        <span title="Height counts the logarithm of tokens: a bar twice as high stands for far more than twice as many">activation</span>
        <span title="The highest in the text of the atlas">{maximum.toPrecision(3)}</span>
      </figcaption>
    </figure>
  );
}
