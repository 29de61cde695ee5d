// The two models of tokenizer.json that bundles use: byte pair encoding, and a table of whole words.
#include <queue>
#include <tuple>

#include "tokenizer.h"
#include "unicode.h"

namespace sprint_export {
namespace {

using Vocabulary = std::unordered_map<std::string, std::int64_t>;
constexpr std::int64_t LARGEST_ID = 1 << 30;

Vocabulary read_vocabulary(const Node& node) {
    Vocabulary vocabulary;
    vocabulary.reserve(node.size());
    for (const auto& [token, id] : node.members()) vocabulary.emplace(token, id.integer(0, LARGEST_ID));
    return vocabulary;
}

std::optional<std::int64_t> find_id(const Vocabulary& vocabulary, const std::string& token) {
    const auto found = vocabulary.find(token);
    if (found == vocabulary.end()) return std::nullopt;
    return found->second;
}

std::optional<std::int64_t> read_unknown(const Node& model, const Vocabulary& vocabulary) {
    if (!model.has("unk_token")) return std::nullopt;
    const auto id = find_id(vocabulary, model.at("unk_token").text());
    if (!id) model.at("unk_token").refuse("a token of its vocabulary");
    return id;
}

class Words : public TokenModel {
public:
    explicit Words(const Node& model) : vocabulary_(read_vocabulary(model.at("vocab"))), unknown_(read_unknown(model, vocabulary_)) {}

    void append_ids(std::u32string_view word, Ids& ids) const override {
        const auto id = find_id(vocabulary_, encode_utf8(word));
        if (!id && !unknown_) throw BundleError("the tokenizer has no token for \"" + encode_utf8(word) + "\" and no unknown one");
        ids.push_back(id ? *id : *unknown_);
    }
    std::optional<std::int64_t> find(const std::string& token) const override { return find_id(vocabulary_, token); }
    std::size_t size() const override { return vocabulary_.size(); }

private:
    Vocabulary vocabulary_;
    std::optional<std::int64_t> unknown_;
};

class BytePairs : public TokenModel {
public:
    explicit BytePairs(const Node& model)
        : vocabulary_(read_vocabulary(model.at("vocab"))),
          unknown_(read_unknown(model, vocabulary_)),
          joins_unknown_(model.boolean_or("fuse_unk", false)),
          takes_whole_words_(model.boolean_or("ignore_merges", false)) {
        for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"})
            if (model.has(affix) && !model.at(affix).text().empty()) model.at(affix).refuse("none; such a BPE is not covered");
        if (model.has("dropout") && model.at("dropout").number(0, 1) != 0) model.at("dropout").refuse("none");
        if (model.boolean_or("byte_fallback", false)) read_bytes();
        read_merges(model.at("merges"));
    }

    void append_ids(std::u32string_view word, Ids& ids) const override {
        if (takes_whole_words_) {
            if (const auto id = find_id(vocabulary_, encode_utf8(word))) {
                ids.push_back(*id);
                return;
            }
        }
        Ids symbols = list_symbols(word);
        merge(symbols);
        ids.insert(ids.end(), symbols.begin(), symbols.end());
    }
    std::optional<std::int64_t> find(const std::string& token) const override { return find_id(vocabulary_, token); }
    std::size_t size() const override { return vocabulary_.size(); }

private:
    struct Merge {
        std::size_t rank;
        std::int64_t id;
    };
    struct Candidate {
        std::size_t rank, place;
        std::int64_t id;
        bool operator<(const Candidate& other) const {  // the next one is the largest of a priority queue
            return std::tie(rank, place) > std::tie(other.rank, other.place);
        }
    };

    static std::uint64_t pair_key(std::int64_t left, std::int64_t right) {
        return static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint64_t>(right);
    }

    void read_bytes() {  // all 256, or else bytes stand for no character
        constexpr char DIGITS[] = "0123456789ABCDEF";
        for (unsigned byte = 0; byte < 256; ++byte)
            bytes_.push_back(find_id(vocabulary_, std::string("<0x") + DIGITS[byte / 16] + DIGITS[byte % 16] + ">"));
    }

    void read_merges(const Node& list) {
        std::size_t rank = 0;
        for (const Node& said : list.items()) {
            std::string left, right;
            if (said.is_text()) {
                const std::string both = said.text();
                const std::size_t space = both.find(' ');
                if (space == std::string::npos || both.find(' ', space + 1) != std::string::npos) said.refuse("two tokens");
                left = both.substr(0, space);
                right = both.substr(space + 1);
            } else {
                const auto two = said.items();
                if (two.size() != 2) said.refuse("two tokens");
                left = two[0].text();
                right = two[1].text();
            }
            const auto a = find_id(vocabulary_, left), b = find_id(vocabulary_, right), whole = find_id(vocabulary_, left + right);
            if (!a || !b || !whole) said.refuse("tokens of its vocabulary");
            merges_[pair_key(*a, *b)] = {rank++, *whole};
        }
    }

    Ids list_symbols(std::u32string_view word) const {
        Ids symbols;
        bool has_unknown = false;  // one that is not yet among the symbols, since the next may join it
        for (const char32_t character : word) {
            std::string text;
            append_utf8(text, character);
            if (const auto id = find_id(vocabulary_, text)) {
                if (has_unknown) symbols.push_back(*unknown_);
                has_unknown = false;
                symbols.push_back(*id);
            } else if (!append_bytes(text, symbols) && unknown_) {
                if (has_unknown && !joins_unknown_) symbols.push_back(*unknown_);
                has_unknown = true;
            }
        }
        if (has_unknown) symbols.push_back(*unknown_);
        return symbols;
    }

    bool append_bytes(const std::string& text, Ids& symbols) const {
        if (bytes_.empty()) return false;
        const auto id_of = [this](char byte) { return bytes_[static_cast<unsigned char>(byte)]; };
        for (const char byte : text)
            if (!id_of(byte)) return false;
        for (const char byte : text) symbols.push_back(*id_of(byte));
        return true;
    }

    void merge(Ids& symbols) const {
        constexpr std::size_t NONE = SIZE_MAX;
        std::vector<std::size_t> before(symbols.size()), behind(symbols.size());
        std::vector<bool> is_gone(symbols.size(), false);
        std::priority_queue<Candidate> queue;
        const auto offer = [&](std::size_t left, std::size_t right) {
            const auto found = merges_.find(pair_key(symbols[left], symbols[right]));
            if (found != merges_.end()) queue.push({found->second.rank, left, found->second.id});
        };
        for (std::size_t i = 0; i < symbols.size(); ++i) {
            before[i] = i == 0 ? NONE : i - 1;
            behind[i] = i + 1 == symbols.size() ? NONE : i + 1;
            if (i > 0) offer(i - 1, i);
        }
        while (!queue.empty()) {
            const Candidate best = queue.top();
            queue.pop();
            if (is_gone[best.place] || behind[best.place] == NONE) continue;
            const std::size_t right = behind[best.place];
            const auto found = merges_.find(pair_key(symbols[best.place], symbols[right]));
            if (found == merges_.end() || found->second.id != best.id) continue;  // a merge since then has changed the pair
            symbols[best.place] = best.id;
            is_gone[right] = true;
            behind[best.place] = behind[right];
            if (behind[right] != NONE) before[behind[right]] = best.place;
            if (before[best.place] != NONE) offer(before[best.place], best.place);
            if (behind[best.place] != NONE) offer(best.place, behind[best.place]);
        }
        std::size_t kept = 0;
        for (std::size_t i = 0; i < symbols.size(); ++i)
            if (!is_gone[i]) symbols[kept++] = symbols[i];
        symbols.resize(kept);
    }

    Vocabulary vocabulary_;
    std::optional<std::int64_t> unknown_;
    bool joins_unknown_, takes_whole_words_;
    std::vector<std::optional<std::int64_t>> bytes_;  // ids of "<0x00>" to "<0xFF>"; empty: bytes stand for no character
    std::unordered_map<std::uint64_t, Merge> merges_;
};

}  // namespace

std::unique_ptr<TokenModel> read_token_model(const Node& model) {
    if (model.at("type").choice({"BPE", "WordLevel"}) == "BPE") return std::make_unique<BytePairs>(model);
    return std::make_unique<Words>(model);
}

}  // namespace sprint_export
