#include "tokenizer.h"

#include <algorithm>

#include "unicode.h"

namespace sprint_export {
namespace {

constexpr std::int64_t LARGEST_ID = 1 << 30;

}  // namespace

Tokenizer::Tokenizer(const Node& root) : model_(read_token_model(root.at("model"))) {
    if (root.has("normalizer")) normalize_ = read_normalizer(root.at("normalizer"));
    if (root.has("pre_tokenizer")) cut_ = read_pre_tokenizer(root.at("pre_tokenizer"));
    if (root.has("added_tokens")) read_added_tokens(root.at("added_tokens"));
    if (root.has("post_processor")) read_post_processor(root.at("post_processor"));
}

std::optional<std::int64_t> Tokenizer::find(const std::string& token) const {
    const auto added = added_ids_.find(token);
    return added != added_ids_.end() ? added->second : model_->find(token);
}

void Tokenizer::read_added_tokens(const Node& list) {
    std::int64_t next = static_cast<std::int64_t>(model_->size());
    for (const Node& said : list.items()) {
        const std::string content = said.at("content").text();
        if (content.empty()) continue;
        AddedToken token;
        token.content = decode_utf8(content);
        token.is_single_word = said.boolean_or("single_word", false);
        token.strips_left = said.boolean_or("lstrip", false);
        token.strips_right = said.boolean_or("rstrip", false);
        const auto known = find(content);
        token.id = known ? *known : next++;
        if (token.id != said.at("id").integer(0, LARGEST_ID))
            said.at("id").refuse(std::to_string(token.id) + ", the id that \"" + content + "\" gets");
        added_ids_[content] = token.id;
        const bool is_normalized = said.boolean_or("normalized", !said.boolean_or("special", false));
        if (is_normalized && normalize_) token.content = normalize_(token.content);
        if (token.content.empty()) continue;
        (is_normalized ? normalized_tokens_ : raw_tokens_)[token.content[0]].push_back(token);
    }
    for (AddedTokens* tokens : {&raw_tokens_, &normalized_tokens_})
        for (auto& [first, same] : *tokens)
            std::stable_sort(same.begin(), same.end(), [](const AddedToken& a, const AddedToken& b) {
                return a.content.size() > b.content.size();
            });
}

void Tokenizer::read_post_processor(const Node& processor) {
    const std::string kind = processor.at("type").choice({"ByteLevel", "Sequence", "TemplateProcessing"});
    if (kind == "Sequence")
        for (const Node& each : processor.at("processors").items()) read_post_processor(each);
    if (kind != "TemplateProcessing") return;  // a byte-level one changes offsets and no ids
    Ids around[2];
    bool is_behind = false;
    for (const Node& piece : processor.at("single").items()) {
        if (piece.has("Sequence")) {
            if (is_behind) piece.refuse("one sequence in a template");
            piece.at("Sequence").at("id").choice({"A"});
            is_behind = true;
            continue;
        }
        const std::string name = piece.at("SpecialToken").at("id").text();
        for (const Node& id : processor.at("special_tokens").at(name).at("ids").items())
            around[is_behind ? 1 : 0].push_back(id.integer(0, LARGEST_ID));
        special_ += processor.at("special_tokens").at(name).at("ids").size();
        if (special_ > MOST_SPECIAL) piece.refuse("at most " + std::to_string(MOST_SPECIAL) + " tokens around a text");
    }
    if (!is_behind) processor.at("single").refuse("a template with a sequence");
    before_.push_back(around[0]);
    behind_.push_back(around[1]);
}

const Tokenizer::AddedToken* Tokenizer::match(const AddedTokens& tokens, std::u32string_view text, std::size_t place) {
    const auto same = tokens.find(text[place]);
    if (same == tokens.end()) return nullptr;
    for (const AddedToken& token : same->second)
        if (text.compare(place, token.content.size(), token.content) == 0) return &token;
    return nullptr;
}

void Tokenizer::split(const AddedTokens& tokens, const std::u32string& text, std::vector<Piece>& pieces) {
    const auto add_text = [&](std::size_t begin, std::size_t end) {
        if (begin < end) pieces.push_back({text.substr(begin, end - begin), std::nullopt});
    };
    std::size_t done = 0;
    for (std::size_t place = 0; place < text.size();) {
        const AddedToken* token = match(tokens, text, place);
        if (token == nullptr) {
            ++place;
            continue;
        }
        std::size_t begin = place, end = place + token->content.size();
        place = end;
        const bool is_within = (begin > 0 && is_word(text[begin - 1])) || (end < text.size() && is_word(text[end]));
        if (token->is_single_word && is_within) continue;
        if (token->strips_left)
            while (begin > done && is_space(text[begin - 1])) --begin;
        if (token->strips_right)
            while (end < text.size() && is_space(text[end])) ++end;
        begin = std::max(begin, done);
        add_text(done, begin);
        pieces.push_back({{}, token->id});
        done = end;
    }
    add_text(done, text.size());
}

Ids Tokenizer::encode(const std::u32string& text) const {
    std::vector<Piece> raw, pieces;
    split(raw_tokens_, text, raw);
    for (Piece& piece : raw) {
        if (piece.id)
            pieces.push_back(std::move(piece));
        else
            split(normalized_tokens_, normalize_ ? normalize_(std::move(piece.text)) : std::move(piece.text), pieces);
    }
    Ids ids;
    for (const Piece& piece : pieces) {
        if (piece.id) {
            ids.push_back(*piece.id);
            continue;
        }
        Texts words;
        if (cut_)
            cut_(piece.text, words);
        else
            words.push_back(piece.text);
        for (const std::u32string& word : words)
            if (!word.empty()) model_->append_ids(word, ids);
    }
    for (std::size_t i = 0; i < before_.size(); ++i) {
        ids.insert(ids.begin(), before_[i].begin(), before_[i].end());
        ids.insert(ids.end(), behind_[i].begin(), behind_[i].end());
    }
    return ids;
}

}  // namespace sprint_export
