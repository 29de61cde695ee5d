"""What bundles must reach by default, by what their weights are stored in; each with one line of why."""

from __future__ import annotations

from sprint_export.nouns.report import Gate

# Of 512 pictures 2 points are decided where at most 2 are lost and 3 points where at most 5 are (decision 0047).
SAME = Gate("adherence_drop_points", "<=", 2.0, "it shows the same things; 1 point is more than 512 pictures can tell from none")
FULL = (
    Gate("psnr_db", ">=", 75.0, "float32 on both sides: right exports measure 86 dB and more; a norm 1 % off 46 to 75"),
    Gate(
        "converter_psnr_db",
        ">=",
        90.0,
        "networks on equal inputs: right exports measure 99 dB and more; a norm's gain 1 % off 42 to 84, a channel lost 21 to 87",
    ),
    SAME,
)
HALF = (
    Gate("psnr_db", ">=", 35.0, "weights rounded to 16 bits; 35 dB is invisible side by side"),
    SAME,
)
SHARE = Gate("quantized_share", ">=", 0.9, "a bundle called 8-bit has its matmul and 1x1-convolution weights in 8 bits")
EIGHT_BITS = (
    Gate(
        "psnr_db",
        ">=",
        25.0,
        "8-bit weights and activations; published W8A8 of few-step models is near 23 dB (SVDQuant, FLUX.1-schnell)",
    ),
    Gate("adherence_drop_points", "<=", 3.0, "the picture may change, what it shows may not"),
    SHARE,
)
FEW_BITS = (
    Gate("psnr_db", ">=", 20.0, "6 and 4 bits a weight: visible side by side, but the same picture"),
    Gate(
        "adherence_drop_points",
        "<=",
        3.0,
        "4-bit text encoders are known to lose the prompt (FLUX.2 klein on Core AI); this one may not",
    ),
    SHARE,
)
