// A tokenizer.json as the tokenizers library reads it: byte-level BPE, BPE with byte fallback, and whole words. Kinds of parts that
// no bundle uses are refused by name, so that ids are the library's or none.
#ifndef SPRINT_EXPORT_TOKENIZER_H
#define SPRINT_EXPORT_TOKENIZER_H

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "json.h"

namespace sprint_export {

using Ids = std::vector<std::int64_t>;
using Texts = std::vector<std::u32string>;

constexpr std::size_t MOST_LETTERS = 1 << 24;  // that parts of a tokenizer may make of a text
constexpr std::size_t MOST_SPECIAL = 1 << 16;  // tokens around a text

class TokenModel {
public:
    virtual ~TokenModel() = default;
    virtual void append_ids(std::u32string_view word, Ids& ids) const = 0;
    virtual std::optional<std::int64_t> find(const std::string& token) const = 0;
    virtual std::size_t size() const = 0;  // of the vocabulary
};
std::unique_ptr<TokenModel> read_token_model(const Node& model);  // token_models.cpp

using Normalize = std::function<std::u32string(std::u32string)>;
using Cut = std::function<void(const std::u32string&, Texts&)>;  // appends the pieces of a text
Normalize read_normalizer(const Node& normalizer);               // text_parts.cpp
Cut read_pre_tokenizer(const Node& pre_tokenizer);               // text_parts.cpp

class Tokenizer {
public:
    explicit Tokenizer(const Node& root);  // throws BundleError

    Ids encode(const std::u32string& text) const;  // special tokens among them
    std::optional<std::int64_t> find(const std::string& token) const;

private:
    struct AddedToken {
        std::u32string content;
        std::int64_t id = 0;
        bool is_single_word = false, strips_left = false, strips_right = false;
    };
    struct Piece {
        std::u32string text;
        std::optional<std::int64_t> id;
    };
    using AddedTokens = std::unordered_map<char32_t, std::vector<AddedToken>>;  // by their first character, longer ones first

    void read_added_tokens(const Node& root);
    void read_post_processor(const Node& processor);
    static void split(const AddedTokens& tokens, const std::u32string& text, std::vector<Piece>& pieces);
    static const AddedToken* match(const AddedTokens& tokens, std::u32string_view text, std::size_t place);

    Normalize normalize_;
    Cut cut_;
    std::unique_ptr<TokenModel> model_;
    AddedTokens raw_tokens_, normalized_tokens_;
    std::unordered_map<std::string, std::int64_t> added_ids_;
    std::size_t special_ = 0;  // tokens in all of
    std::vector<Ids> before_, behind_;  // special tokens around the text, of each post-processor in turn
};

}  // namespace sprint_export

#endif
