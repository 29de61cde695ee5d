// A PNG file of one picture, its deflate blocks stored: exact, and no library. PNG specification (third edition), RFC 1950 and 1951.
#include <array>

#include "sprint_export/sprint_export.h"

namespace sprint_export {
namespace {

using Bytes = std::vector<std::uint8_t>;
constexpr std::size_t LARGEST_BLOCK = 65535;

void append_number(Bytes& bytes, std::uint32_t number) {
    for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<std::uint8_t>(number >> shift));
}

std::uint32_t crc32(const std::uint8_t* data, std::size_t size) {
    static const auto table = [] {
        std::array<std::uint32_t, 256> made{};
        for (std::uint32_t i = 0; i < 256; ++i) {
            made[i] = i;
            for (int bit = 0; bit < 8; ++bit) made[i] = made[i] >> 1 ^ ((made[i] & 1U) != 0 ? 0xEDB88320U : 0U);
        }
        return made;
    }();
    std::uint32_t crc = 0xFFFFFFFF;
    for (std::size_t i = 0; i < size; ++i) crc = table[(crc ^ data[i]) & 0xFFU] ^ crc >> 8;
    return ~crc;
}

std::uint32_t adler32(const Bytes& data) {
    std::uint32_t a = 1, b = 0;
    for (const std::uint8_t byte : data) {
        a = (a + byte) % 65521;
        b = (b + a) % 65521;
    }
    return b << 16 | a;
}

void append_chunk(Bytes& file, const char* type, const Bytes& content) {
    append_number(file, static_cast<std::uint32_t>(content.size()));
    const std::size_t start = file.size();
    file.insert(file.end(), type, type + 4);
    file.insert(file.end(), content.begin(), content.end());
    append_number(file, crc32(file.data() + start, file.size() - start));
}

Bytes store(const Bytes& data) {  // a zlib stream without compression
    Bytes stream = {0x78, 0x01};
    for (std::size_t done = 0; done < data.size();) {
        const std::size_t size = data.size() - done < LARGEST_BLOCK ? data.size() - done : LARGEST_BLOCK;
        stream.push_back(done + size == data.size() ? 1 : 0);
        for (const std::size_t number : {size, ~size & 0xFFFF}) {
            stream.push_back(static_cast<std::uint8_t>(number & 0xFF));
            stream.push_back(static_cast<std::uint8_t>(number >> 8 & 0xFF));
        }
        const auto begin = data.begin() + static_cast<std::ptrdiff_t>(done);
        stream.insert(stream.end(), begin, begin + static_cast<std::ptrdiff_t>(size));
        done += size;
    }
    append_number(stream, adler32(data));
    return stream;
}

}  // namespace

std::vector<std::uint8_t> encode_png(const Picture& picture) {
    const auto width = static_cast<std::size_t>(picture.width), height = static_cast<std::size_t>(picture.height);
    if (picture.width < 1 || picture.height < 1 || picture.rgb.size() != width * height * 3)
        throw InputError("a picture of " + std::to_string(picture.width) + " by " + std::to_string(picture.height) + " pixels with " +
                         std::to_string(picture.rgb.size()) + " values, expected three a pixel");
    Bytes rows;
    rows.reserve((3 * width + 1) * height);
    for (std::size_t y = 0; y < height; ++y) {
        rows.push_back(0);  // no filter
        const auto begin = picture.rgb.begin() + static_cast<std::ptrdiff_t>(3 * width * y);
        rows.insert(rows.end(), begin, begin + static_cast<std::ptrdiff_t>(3 * width));
    }
    Bytes file = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'}, header;
    append_number(header, static_cast<std::uint32_t>(width));
    append_number(header, static_cast<std::uint32_t>(height));
    header.insert(header.end(), {8, 2, 0, 0, 0});  // 8 bits, RGB, deflate, filters of each row, not interlaced
    append_chunk(file, "IHDR", header);
    append_chunk(file, "IDAT", store(rows));
    append_chunk(file, "IEND", {});
    return file;
}

}  // namespace sprint_export
