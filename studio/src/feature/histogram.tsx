/** How often a feature is how strong, where it is active. */
export function Histogram({ counts, maximum }: { counts: readonly number[]; maximum: number }) {
  const most = Math.log1p(Math.max(1, ...counts));
  const wide = 100 / Math.max(1, counts.length);
  return (
    <figure class="histogram">
      <svg viewBox="0 0 100 40" preserveAspectRatio="none" role="img" aria-label="How often it is how strong; weak activations are to the left">
        {counts.map((count, i) => {
          const high = (40 * Math.log1p(count)) / most;
          return <rect key={i} x={i * wide} y={40 - high} width={Math.max(0.2, wide - 0.35)} height={high} />;
        })}
      </svg>
      <figcaption class="quiet small number">
        <span>0</span>
        <span title="A bar twice as high stands for far more than twice as many tokens">activation, log of tokens</span>
        <span title="The unit of strengths and shares">{maximum.toPrecision(3)} = its maximum</span>
      </figcaption>
    </figure>
  );
}
