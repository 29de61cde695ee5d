#include "files.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <vector>

#include "sprint_export/sprint_export.h"

namespace fs = std::filesystem;

namespace sprint_export {
namespace {

constexpr std::size_t BLOCK = 1 << 20;

constexpr std::uint32_t ROUND_CONSTANTS[64] = {
    0x428A2F98, 0x71374491, 0xB5C0FBCF, 0xE9B5DBA5, 0x3956C25B, 0x59F111F1, 0x923F82A4, 0xAB1C5ED5, 0xD807AA98, 0x12835B01, 0x243185BE,
    0x550C7DC3, 0x72BE5D74, 0x80DEB1FE, 0x9BDC06A7, 0xC19BF174, 0xE49B69C1, 0xEFBE4786, 0x0FC19DC6, 0x240CA1CC, 0x2DE92C6F, 0x4A7484AA,
    0x5CB0A9DC, 0x76F988DA, 0x983E5152, 0xA831C66D, 0xB00327C8, 0xBF597FC7, 0xC6E00BF3, 0xD5A79147, 0x06CA6351, 0x14292967, 0x27B70A85,
    0x2E1B2138, 0x4D2C6DFC, 0x53380D13, 0x650A7354, 0x766A0ABB, 0x81C2C92E, 0x92722C85, 0xA2BFE8A1, 0xA81A664B, 0xC24B8B70, 0xC76C51A3,
    0xD192E819, 0xD6990624, 0xF40E3585, 0x106AA070, 0x19A4C116, 0x1E376C08, 0x2748774C, 0x34B0BCB5, 0x391C0CB3, 0x4ED8AA4A, 0x5B9CCA4F,
    0x682E6FF3, 0x748F82EE, 0x78A5636F, 0x84C87814, 0x8CC70208, 0x90BEFFFA, 0xA4506CEB, 0xBEF9A3F7, 0xC67178F2};

std::uint32_t rotate(std::uint32_t word, unsigned bits) { return word >> bits | word << (32 - bits); }

std::ifstream open_file(const fs::path& file) {
    std::ifstream stream(file, std::ios::binary);
    if (!stream) throw BundleError(show(file) + " cannot be opened; copy the bundle again");
    return stream;
}

bool is_plain(const fs::path& part) {  // of a name: no way out of the folder, on any system
    const std::string name = part.u8string();
    return !name.empty() && name != "." && name != ".." && name.find_first_of(std::string("\\:\0", 3)) == std::string::npos;
}

}  // namespace

std::string show(const fs::path& path) { return path.u8string(); }

fs::path find_file(const fs::path& folder, const std::string& name) {
    const fs::path relative = fs::u8path(name);
    fs::path file = folder;
    std::error_code error;
    if (name.empty() || relative.is_absolute() || relative.has_root_path())
        throw BundleError("a file is named \"" + name + "\", expected a path inside the bundle's folder");
    for (const fs::path& part : relative) {
        if (!is_plain(part)) throw BundleError("a file is named \"" + name + "\", expected a path inside the bundle's folder");
        file /= part;
        if (fs::is_symlink(fs::symlink_status(file, error)))
            throw BundleError(show(file) + " is a link; a bundle is opened without any: copy it with `cp -rL`");
    }
    if (!fs::is_regular_file(file, error)) throw BundleError(show(file) + " is missing or no file; copy the bundle again");
    return file;
}

std::string read_file(const fs::path& file, std::uintmax_t most) {
    std::error_code error;
    const std::uintmax_t size = fs::file_size(file, error);
    if (error) throw BundleError(show(file) + " cannot be read (" + error.message() + "); copy the bundle again");
    if (size > most)
        throw BundleError(show(file) + " has " + std::to_string(size) + " bytes, expected at most " + std::to_string(most));
    std::ifstream stream = open_file(file);
    std::string text(static_cast<std::size_t>(size), '\0');
    stream.read(text.data(), static_cast<std::streamsize>(size));
    if (stream.gcount() != static_cast<std::streamsize>(size)) throw BundleError(show(file) + " cannot be read whole");
    return text;
}

std::string hash_bytes(const void* data, std::size_t size) {
    Sha256 hash;
    hash.add(data, size);
    return hash.finish();
}

std::string hash_file(const fs::path& file, const std::function<void()>& go_on) {
    std::ifstream stream = open_file(file);
    std::vector<char> block(BLOCK);
    Sha256 hash;
    while (stream) {
        stream.read(block.data(), static_cast<std::streamsize>(block.size()));
        hash.add(block.data(), static_cast<std::size_t>(stream.gcount()));
        go_on();
    }
    if (stream.bad()) throw BundleError(show(file) + " cannot be read whole");
    return hash.finish();
}

void Sha256::add(const void* data, std::size_t size) {
    const auto* bytes = static_cast<const unsigned char*>(data);
    while (size > 0) {
        const std::size_t filled = static_cast<std::size_t>(count_ % 64), taken = std::min(size, 64 - filled);
        if (taken == 64) {
            mix(bytes);
        } else {
            std::memcpy(rest_.data() + filled, bytes, taken);
            if (filled + taken == 64) mix(rest_.data());
        }
        count_ += taken;
        bytes += taken;
        size -= taken;
    }
}

std::string Sha256::finish() {
    const std::uint64_t bits = count_ * 8;
    const unsigned char one = 0x80, zero = 0;
    add(&one, 1);
    while (count_ % 64 != 56) add(&zero, 1);
    for (int shift = 56; shift >= 0; shift -= 8) {
        const auto byte = static_cast<unsigned char>(bits >> shift);
        add(&byte, 1);
    }
    std::string text;
    for (const std::uint32_t word : state_)
        for (int shift = 28; shift >= 0; shift -= 4) text += "0123456789abcdef"[word >> shift & 15];
    return text;
}

void Sha256::mix(const unsigned char* block) {
    std::uint32_t words[64];
    for (std::size_t i = 0; i < 16; ++i)
        words[i] = static_cast<std::uint32_t>(block[4 * i]) << 24 | static_cast<std::uint32_t>(block[4 * i + 1]) << 16 |
                   static_cast<std::uint32_t>(block[4 * i + 2]) << 8 | block[4 * i + 3];
    for (std::size_t i = 16; i < 64; ++i) {
        const std::uint32_t a = words[i - 15], b = words[i - 2];
        words[i] = words[i - 16] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) + words[i - 7] + (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
    }
    std::array<std::uint32_t, 8> s = state_;
    for (std::size_t i = 0; i < 64; ++i) {
        const std::uint32_t first = s[7] + (rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) +
                                    ROUND_CONSTANTS[i] + words[i];
        const std::uint32_t second = (rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        s = {first + second, s[0], s[1], s[2], s[3] + first, s[4], s[5], s[6]};
    }
    for (std::size_t i = 0; i < 8; ++i) state_[i] += s[i];
}

}  // namespace sprint_export
