#include "unicode.h"

#include <algorithm>
#include <iterator>
#include <unordered_map>

#include "sprint_export/sprint_export.h"

namespace sprint_export {
namespace {

struct Range {
    char32_t first, last;
};
struct LowerCase {
    char32_t first, last;
    unsigned step;
    int added;
};
struct CombiningClass {
    char32_t first, last;
    unsigned char kind;
};
struct Decomposition {
    char32_t character, first, second;  // second is 0 where one character stands for another
    bool is_composed;
};

#include "unicode_characters.inc"
#include "unicode_forms.inc"

constexpr char32_t SMALL_SIGMA = 0x3C3, FINAL_SIGMA = 0x3C2, CAPITAL_SIGMA = 0x3A3, CAPITAL_I_WITH_DOT = 0x130;
constexpr char32_t SYLLABLES = 0xAC00, LEADS = 0x1100, VOWELS = 0x1161, TRAILS = 0x11A7;  // Hangul, Unicode 3.12
constexpr char32_t LEAD_COUNT = 19, VOWEL_COUNT = 21, TRAIL_COUNT = 28, SYLLABLE_COUNT = LEAD_COUNT * VOWEL_COUNT * TRAIL_COUNT;

template <typename Row, std::size_t count>
const Row* find_row(const Row (&rows)[count], char32_t character) {
    const Row* row = std::upper_bound(std::begin(rows), std::end(rows), character,
                                      [](char32_t value, const Row& each) { return value < each.first; });
    return row != std::begin(rows) && character <= std::prev(row)->last ? std::prev(row) : nullptr;
}

template <std::size_t count>
bool holds(const Range (&rows)[count], char32_t character) {
    return find_row(rows, character) != nullptr;
}

unsigned char combining_class(char32_t character) {
    const CombiningClass* row = find_row(COMBINING_CLASSES, character);
    return row == nullptr ? static_cast<unsigned char>(0) : row->kind;
}

bool is_last_of_word(std::u32string_view text, std::size_t sigma) {
    std::size_t before = sigma;
    while (before > 0 && holds(CASE_IGNORABLE, text[before - 1])) --before;
    if (before == 0 || !holds(CASED, text[before - 1])) return false;
    std::size_t behind = sigma + 1;
    while (behind < text.size() && holds(CASE_IGNORABLE, text[behind])) ++behind;
    return behind == text.size() || !holds(CASED, text[behind]);
}

void append_decomposed(std::u32string& text, char32_t character) {
    if (character - SYLLABLES < SYLLABLE_COUNT && character >= SYLLABLES) {
        const char32_t index = character - SYLLABLES;
        text += LEADS + index / (VOWEL_COUNT * TRAIL_COUNT);
        text += VOWELS + index % (VOWEL_COUNT * TRAIL_COUNT) / TRAIL_COUNT;
        if (index % TRAIL_COUNT != 0) text += TRAILS + index % TRAIL_COUNT;
        return;
    }
    const auto* row = std::lower_bound(std::begin(DECOMPOSITIONS), std::end(DECOMPOSITIONS), character,
                                       [](const Decomposition& each, char32_t value) { return each.character < value; });
    if (row == std::end(DECOMPOSITIONS) || row->character != character) {
        text += character;
        return;
    }
    append_decomposed(text, row->first);
    if (row->second != 0) append_decomposed(text, row->second);
}

const std::unordered_map<std::uint64_t, char32_t>& compositions() {
    static const auto table = [] {
        std::unordered_map<std::uint64_t, char32_t> made;
        for (const Decomposition& row : DECOMPOSITIONS)
            if (row.is_composed) made.emplace(static_cast<std::uint64_t>(row.first) << 32 | row.second, row.character);
        return made;
    }();
    return table;
}

char32_t compose_pair(char32_t first, char32_t second) {  // 0 where they stay two
    if (first >= LEADS && first - LEADS < LEAD_COUNT && second >= VOWELS && second - VOWELS < VOWEL_COUNT)
        return SYLLABLES + ((first - LEADS) * VOWEL_COUNT + second - VOWELS) * TRAIL_COUNT;
    const bool has_no_trail = first >= SYLLABLES && first - SYLLABLES < SYLLABLE_COUNT && (first - SYLLABLES) % TRAIL_COUNT == 0;
    if (has_no_trail && second > TRAILS && second - TRAILS < TRAIL_COUNT) return first + second - TRAILS;
    const auto found = compositions().find(static_cast<std::uint64_t>(first) << 32 | second);
    return found == compositions().end() ? 0 : found->second;
}

}  // namespace

std::u32string decode_utf8(std::string_view text) {
    std::u32string characters;
    characters.reserve(text.size());
    for (std::size_t i = 0; i < text.size();) {
        const auto lead = static_cast<unsigned char>(text[i]);
        const std::size_t length = lead < 0x80 ? 1 : lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
        if (length == 0 || i + length > text.size())
            throw InputError("the text is no UTF-8 at byte " + std::to_string(i) + "; encode it");
        char32_t character = length == 1 ? lead : lead & (0x7FU >> length);
        bool is_right = true;
        for (std::size_t k = 1; k < length; ++k) {
            const auto next = static_cast<unsigned char>(text[i + k]);
            is_right = is_right && (next & 0xC0U) == 0x80;
            character = character << 6 | (next & 0x3FU);
        }
        const bool is_longer_than_needed = (length == 3 && character < 0x800) || (length == 4 && character < 0x10000);
        const bool is_surrogate = character >= 0xD800 && character < 0xE000;
        if (!is_right || is_longer_than_needed || is_surrogate || character > 0x10FFFF)
            throw InputError("the text is no UTF-8 at byte " + std::to_string(i) + "; encode it");
        characters += character;
        i += length;
    }
    return characters;
}

void append_utf8(std::string& text, char32_t character) {
    const auto add = [&text](char32_t byte) { text += static_cast<char>(static_cast<unsigned char>(byte)); };
    if (character < 0x80) {
        add(character);
    } else if (character < 0x800) {
        add(0xC0 | character >> 6);
        add(0x80 | (character & 0x3F));
    } else if (character < 0x10000) {
        add(0xE0 | character >> 12);
        add(0x80 | (character >> 6 & 0x3F));
        add(0x80 | (character & 0x3F));
    } else {
        add(0xF0 | character >> 18);
        add(0x80 | (character >> 12 & 0x3F));
        add(0x80 | (character >> 6 & 0x3F));
        add(0x80 | (character & 0x3F));
    }
}

std::string encode_utf8(std::u32string_view text) {
    std::string bytes;
    bytes.reserve(text.size());
    for (const char32_t character : text) append_utf8(bytes, character);
    return bytes;
}

std::u32string lower(std::u32string_view text) {
    std::u32string lowered;
    lowered.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char32_t character = text[i];
        if (character == CAPITAL_I_WITH_DOT) {
            lowered += {U'i', 0x307};
        } else if (character == CAPITAL_SIGMA) {
            lowered += is_last_of_word(text, i) ? FINAL_SIGMA : SMALL_SIGMA;
        } else {
            const LowerCase* row = find_row(LOWER_CASES, character);
            const bool has_one = row != nullptr && (character - row->first) % row->step == 0;
            lowered += has_one ? static_cast<char32_t>(static_cast<std::int64_t>(character) + row->added) : character;
        }
    }
    return lowered;
}

std::u32string compose(std::u32string_view text) {
    std::u32string apart;
    apart.reserve(text.size());
    for (const char32_t character : text) append_decomposed(apart, character);
    for (std::size_t first = 0; first < apart.size(); ++first) {
        std::size_t end = first;
        while (end < apart.size() && combining_class(apart[end]) != 0) ++end;
        std::stable_sort(apart.begin() + static_cast<std::ptrdiff_t>(first), apart.begin() + static_cast<std::ptrdiff_t>(end),
                         [](char32_t a, char32_t b) { return combining_class(a) < combining_class(b); });
        first = end;
    }
    std::u32string together;
    together.reserve(apart.size());
    std::size_t starter = std::u32string::npos;
    int before = -1;  // the class of what stands between the starter and the next character; -1: nothing
    for (const char32_t character : apart) {
        const int kind = combining_class(character);
        const bool is_blocked = before >= kind;
        const char32_t pair = starter == std::u32string::npos || is_blocked ? 0 : compose_pair(together[starter], character);
        if (pair != 0) {
            together[starter] = pair;
            continue;
        }
        together += character;
        before = kind;
        if (kind == 0) {
            starter = together.size() - 1;
            before = -1;
        }
    }
    return together;
}

std::u32string strip(std::u32string_view text, std::u32string_view characters) {
    const std::size_t first = text.find_first_not_of(characters);
    if (first == std::u32string_view::npos) return {};
    return std::u32string(text.substr(first, text.find_last_not_of(characters) - first + 1));
}

bool is_letter(char32_t character) { return holds(LETTERS, character); }
bool is_number(char32_t character) { return holds(NUMBERS, character); }
bool is_word(char32_t character) { return holds(WORD_CHARACTERS, character); }
bool is_space(char32_t character) { return holds(SPACES, character); }

}  // namespace sprint_export
