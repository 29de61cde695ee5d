// UTF-8, lower case as Python's str.lower(), NFC, and the classes of characters that tokenizers cut texts by.
#ifndef SPRINT_EXPORT_UNICODE_H
#define SPRINT_EXPORT_UNICODE_H

#include <string>
#include <string_view>

namespace sprint_export {

std::u32string decode_utf8(std::string_view text);  // throws InputError where it is no UTF-8
std::string encode_utf8(std::u32string_view text);
void append_utf8(std::string& text, char32_t character);

std::u32string lower(std::u32string_view text);    // full and without a locale: U+0130 becomes two, a last sigma is a final one
std::u32string compose(std::u32string_view text);  // Normalization Form C
std::u32string strip(std::u32string_view text, std::u32string_view characters);

bool is_letter(char32_t character);  // \p{L}
bool is_number(char32_t character);  // \p{N}
bool is_word(char32_t character);    // \w
bool is_space(char32_t character);   // \s, White_Space

}  // namespace sprint_export

#endif
