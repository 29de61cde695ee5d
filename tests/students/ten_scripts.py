"""200 prompts in ten scripts, with digits, punctuation, spaces and combining marks between words: what tokenizers differ in."""

from __future__ import annotations

import numpy as np

WORDS = {
    "Latin": "a red circle above the crème brûlée, it's İstanbul ﬁre naïve e\u0301t\u00e9 don't THEY'LL",
    "Cyrillic": "красный круг над синим квадратом, ёлка и лёд",
    "Greek": "κόκκινος κύκλος πάνω από μπλε τετράγωνο",
    "Han": "红色的圆在蓝色方块上方 一只猫 龍",
    "Kana": "赤い丸は青い四角のうえ カタカナ ｶﾞ",
    "Hangul": "파란 네모 위의 빨간 동그라미 각",
    "Arabic": "دائرة حمراء فوق مُرَبَّع أزرق",
    "Hebrew": "עיגול אדום מעל ריבוע כחול שָׁלוֹם",
    "Devanagari": "नीले वर्ग के ऊपर लाल वृत्त क़",
    "Thai": "วงกลมสีแดงเหนือสี่เหลี่ยมสีน้ำเงิน",
}
BETWEEN = (" ", " ", " ", "  ", ", ", " - ", "... ", "\n", " 12", " 3.5 ", "🙂", " «", "\t", "'s ", "\r\n\r\n", "🏳️‍🌈 ", "(", ") ")


def list_prompts() -> list[str]:
    """Twenty of each script, the same each time."""
    draw = np.random.default_rng(0)
    prompts = []
    for text in WORDS.values():
        words = text.split(" ")
        for _ in range(20):
            chosen = [words[i] + BETWEEN[k] for i, k in draw.integers(0, (len(words), len(BETWEEN)), (8, 2))]
            prompts.append("".join(chosen))
    return prompts
