// Normalizers and pre-tokenizers of tokenizer.json: what happens to a text before a model makes tokens of its pieces.
#include <array>

#include "tokenizer.h"
#include "unicode.h"

namespace sprint_export {
namespace {

// Qwen2's expression, as its tokenizer.json has it; `match_chat_piece` is this one by hand, since a machine for Unicode expressions is a
// library of its own. Another expression is refused.
constexpr const char* CHAT_PIECES =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr char32_t LONG_S = 0x17F;  // what (?i:s) means beside s and S

struct Span {
    std::size_t begin, end;
    bool is_match;
};
using Spans = std::vector<Span>;

void check_length(std::size_t letters) {
    if (letters > MOST_LETTERS)
        throw BundleError("the tokenizer makes " + std::to_string(letters) + " letters of a text, expected at most " + std::to_string(MOST_LETTERS) +
                          "; copy the bundle again");
}

bool is_newline(char32_t character) { return character == U'\r' || character == U'\n'; }
bool is_symbol(char32_t character) { return !is_space(character) && !is_letter(character) && !is_number(character); }

template <typename Holds>
std::size_t skip(std::u32string_view text, std::size_t place, Holds holds) {
    while (place < text.size() && holds(text[place])) ++place;
    return place;
}

std::size_t match_contraction(std::u32string_view text, std::size_t place) {  // its end, or `place` where there is none
    const auto letter = [&](std::size_t i) -> char32_t {
        const char32_t found = place + i < text.size() ? text[place + i] : 0;
        return found == LONG_S ? U's' : found >= U'A' && found <= U'Z' ? found + 32 : found;
    };
    if (text[place] != U'\'') return place;
    const char32_t first = letter(1), second = letter(2);
    if (first == U's' || first == U't' || first == U'm' || first == U'd') return place + 2;
    const bool is_of_three = (first == U'r' && second == U'e') || (first == U'v' && second == U'e') || (first == U'l' && second == U'l');
    return is_of_three ? place + 3 : place;
}

std::size_t match_chat_piece(std::u32string_view text, std::size_t place) {  // the end of the piece that begins at `place`
    if (const std::size_t end = match_contraction(text, place); end > place) return end;
    const char32_t first = text[place];
    const bool leads = !is_newline(first) && !is_letter(first) && !is_number(first);
    const std::size_t letters = place + (leads ? 1 : 0);
    if (const std::size_t end = skip(text, letters, is_letter); end > letters) return end;
    if (is_number(first)) return place + 1;
    const std::size_t symbols = place + (first == U' ' ? 1 : 0);
    if (const std::size_t end = skip(text, symbols, is_symbol); end > symbols) return skip(text, end, is_newline);
    const std::size_t end = skip(text, place, is_space);
    for (std::size_t newline = end; newline > place; --newline)
        if (is_newline(text[newline - 1])) return newline;
    return end == text.size() || end == place + 1 ? end : end - 1;
}

Spans list_chat_pieces(std::u32string_view text) {
    Spans spans;
    for (std::size_t place = 0; place < text.size();) {
        const std::size_t end = match_chat_piece(text, place);
        spans.push_back({place, end, true});
        place = end;
    }
    return spans;
}

Spans list_occurrences(std::u32string_view text, std::u32string_view pattern) {
    Spans spans;
    std::size_t done = 0;
    for (std::size_t found = text.find(pattern); found != std::u32string_view::npos; found = text.find(pattern, done)) {
        if (done < found) spans.push_back({done, found, false});
        done = found + pattern.size();
        spans.push_back({found, done, true});
    }
    if (done < text.size()) spans.push_back({done, text.size(), false});
    return spans;
}

// Runs of characters that are of one kind, and whether it is the one that matches.
template <typename Kind>
Spans list_runs(std::u32string_view text, Kind kind, int matching) {
    Spans spans;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const bool goes_on = i > 0 && kind(text[i]) == kind(text[i - 1]);
        if (goes_on)
            spans.back().end = i + 1;
        else
            spans.push_back({i, i + 1, kind(text[i]) == matching});
    }
    return spans;
}

Spans join_spans(const Spans& spans, const std::string& behavior) {
    Spans joined;
    if (behavior == "MergedWithNext") {
        bool was_match = false;
        for (auto span = spans.rbegin(); span != spans.rend(); ++span) {
            if (span->is_match && !was_match && !joined.empty())
                joined.back().begin = span->begin;
            else
                joined.push_back(*span);
            was_match = span->is_match;
        }
        return {joined.rbegin(), joined.rend()};
    }
    bool was_match = false;
    for (const Span& span : spans) {
        const bool joins = !joined.empty() && ((behavior == "MergedWithPrevious" && span.is_match && !was_match) ||
                                               (behavior == "Contiguous" && span.is_match == was_match));
        if (joins)
            joined.back().end = span.end;
        else if (behavior != "Removed" || !span.is_match)
            joined.push_back(span);
        was_match = span.is_match;
    }
    return joined;
}

void append_spans(const std::u32string& text, const Spans& spans, Texts& pieces) {
    for (const Span& span : spans) pieces.push_back(text.substr(span.begin, span.end - span.begin));
}

Cut read_split(const Node& node) {
    const std::string behavior =
        node.at("behavior").choice({"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"});
    const bool inverts = node.boolean_or("invert", false);
    std::function<Spans(std::u32string_view)> list_spans = list_chat_pieces;
    if (node.at("pattern").has("String")) {
        const std::u32string pattern = decode_utf8(node.at("pattern").at("String").text());
        if (pattern.empty()) node.at("pattern").refuse("a text that is not empty");
        list_spans = [pattern](std::u32string_view text) { return list_occurrences(text, pattern); };
    } else {
        node.at("pattern").at("Regex").choice({CHAT_PIECES});
    }
    return [=](const std::u32string& text, Texts& pieces) {
        Spans spans = list_spans(text);
        for (Span& span : spans) span.is_match = span.is_match != inverts;
        append_spans(text, join_spans(spans, behavior), pieces);
    };
}

std::array<char32_t, 256> list_byte_characters() {  // those that GPT-2's tokenizer writes for bytes: printable ones
    std::array<char32_t, 256> characters{};
    char32_t next = 256;
    for (unsigned byte = 0; byte < 256; ++byte) {
        const bool is_printed = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
        characters[byte] = is_printed ? static_cast<char32_t>(byte) : next++;
    }
    return characters;
}

Cut read_byte_level(const Node& node) {
    if (node.boolean_or("use_regex", true)) node.refuse("\"use_regex\": false; GPT-2's own expression is not covered");
    const bool adds_space = node.boolean_or("add_prefix_space", true);
    const std::array<char32_t, 256> characters = list_byte_characters();
    return [=](const std::u32string& text, Texts& pieces) {
        const bool leads = adds_space && (text.empty() || text[0] != U' ');
        std::u32string bytes;
        for (const char byte : encode_utf8(leads ? U" " + text : text)) bytes += characters[static_cast<unsigned char>(byte)];
        pieces.push_back(std::move(bytes));
    };
}

}  // namespace

Normalize read_normalizer(const Node& node) {
    const std::string kind = node.at("type").choice({"NFC", "Prepend", "Replace", "Sequence"});
    if (kind == "NFC") return [](const std::u32string& text) { return compose(text); };
    if (kind == "Prepend") {
        const std::u32string before = decode_utf8(node.at("prepend").text());
        return [before](const std::u32string& text) { return text.empty() ? text : before + text; };
    }
    if (kind == "Replace") {
        const std::u32string pattern = decode_utf8(node.at("pattern").at("String").text());
        const std::u32string content = decode_utf8(node.at("content").text());
        if (pattern.empty()) node.at("pattern").refuse("a text that is not empty");
        return [pattern, content](const std::u32string& text) {
            std::u32string replaced;
            for (const Span& span : list_occurrences(text, pattern)) {
                replaced += span.is_match ? content : text.substr(span.begin, span.end - span.begin);
                check_length(replaced.size());
            }
            return replaced;
        };
    }
    std::vector<Normalize> parts;
    for (const Node& each : node.at("normalizers").items()) parts.push_back(read_normalizer(each));
    return [parts](std::u32string text) {
        for (const Normalize& part : parts) {
            text = part(std::move(text));
            check_length(text.size());
        }
        return text;
    };
}

Cut read_pre_tokenizer(const Node& node) {
    const std::string kind = node.at("type").choice({"ByteLevel", "Sequence", "Split", "Whitespace", "WhitespaceSplit"});
    if (kind == "ByteLevel") return read_byte_level(node);
    if (kind == "Split") return read_split(node);
    if (kind == "Whitespace" || kind == "WhitespaceSplit") {
        const bool splits_words = kind == "Whitespace";
        return [splits_words](const std::u32string& text, Texts& pieces) {
            const auto kind_of = [splits_words](char32_t each) { return is_space(each) ? 0 : splits_words && is_word(each) ? 2 : 1; };
            append_spans(text, join_spans(list_runs(text, kind_of, 0), "Removed"), pieces);
        };
    }
    std::vector<Cut> parts;
    for (const Node& each : node.at("pretokenizers").items()) parts.push_back(read_pre_tokenizer(each));
    return [parts](const std::u32string& text, Texts& pieces) {
        Texts now = {text};
        for (const Cut& part : parts) {
            Texts next;
            for (const std::u32string& piece : now)
                if (!piece.empty()) part(piece, next);
            now = std::move(next);
            std::size_t letters = 0;
            for (const std::u32string& piece : now) letters += piece.size();
            check_length(letters);
        }
        for (std::u32string& piece : now) pieces.push_back(std::move(piece));
    };
}

}  // namespace sprint_export
