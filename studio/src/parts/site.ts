/** Where in the model a dictionary reads, in words; docs/reference/sites.md has the terms. */
const WORDS: Record<string, string> = {
  resid_pre: "what the layers before layer # have written (the residual stream before it)",
  resid_post: "what the layers up to layer # have written (the residual stream after it)",
  attn_out: "what the attention of layer # writes",
  mlp_in: "what the MLP of layer # reads",
  mlp_out: "what the MLP of layer # writes",
  embed: "the embeddings of the tokens",
  resid_final: "what the last layer leaves for the prediction",
};

/** Several sites, or one that is not known, stay as they are. Layers count from 0. */
export function siteInWords(site: string): string {
  const [kind = "", layer = ""] = site.split(".");
  const words = WORDS[kind];
  return words && /^\d*$/.test(layer) ? `${words.replace("#", layer)}; layers count from 0` : site;
}
