"""A small tokenizer of Gemma's kind: byte-pair merges, byte fallback, runs of blanks and line breaks, control tokens."""

from functools import cache

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

CONTROL = ("<mask>", "<2mass>", "[@BOS@]", "<unused0>", "<unused98>", "<start_of_turn>", "<end_of_turn>")
RUNS = ("\n", "\n\n", "\n\n\n", "▁▁", "▁▁▁")
TAGS = ("<table>", "</table>", "<h1>", "<b>")
# Tokens across the separator are none of Gemma's; the grammar's promise is about any vocabulary.
WORDS = (
    "▁ca", "▁car", "▁cat", "ca", "car", "cat", "do", "doo", "door", "▁d", "▁do", "▁door", "▁;", "▁;▁", ";▁", "cat▁;", "cat▁;▁", "▁cat▁;▁",
    "r▁", "r▁;", "r▁d", "t▁;▁", "de", "det", "é", "▁é", "漢字", "e\u0301", "字▁", "▁▁c", "r\n", "t;", "t;▁", "x▁y",
)  # fmt: skip


@cache
def gemma_tokenizer() -> PreTrainedTokenizerFast:
    """Number the tokens as Gemma does: special and control tokens, runs, tags, bytes, words, characters, locations, codes, image."""
    special = ("<pad>", "<eos>", "<bos>", "<unk>")
    characters = ["▁", *map(chr, range(33, 127)), "é", "漢", "字", "\u0301", "\n"]
    pieces = [*special, *CONTROL, *RUNS, *TAGS, *(f"<0x{byte:02X}>" for byte in range(256)), *WORDS, *characters]
    vocabulary = {piece: token for token, piece in enumerate(dict.fromkeys(pieces))}
    merges = [(word[:cut], word[cut:]) for word in WORDS for cut in range(1, len(word)) if {word[:cut], word[cut:]} <= vocabulary.keys()]
    raw = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    raw.normalizer = normalizers.Replace(" ", "▁")
    raw.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    raw.add_tokens([AddedToken(token, normalized=False) for token in (*RUNS, *TAGS, *CONTROL)])
    fast = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>")
    fast.add_tokens([f"<loc{index:04d}>" for index in range(1024)] + [f"<seg{index:03d}>" for index in range(128)])
    fast.add_special_tokens({"additional_special_tokens": ["<image>"]})
    return fast
