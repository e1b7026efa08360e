/** A share as a bar. */
export function Bar({ share, label }: { share: number; label?: string }) {
  return (
    <meter class="bar" min={0} max={1} value={Math.max(0, Math.min(1, share))} aria-label={label ?? `${share.toFixed(2)} of its maximum`} />
  );
}
