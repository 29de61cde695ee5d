// PNG files of a reference: 8-bit RGB, not interlaced. PNG specification (third edition), RFC 1950 and 1951. Sizes are bounded by the
// header before anything is unpacked; checksums are left to the picture's SHA-256, which the reference names.
#include <algorithm>
#include <cstdlib>
#include <string>

#include "sprint_export/sprint_export.h"

namespace sprint_export {
namespace {

using Bytes = std::vector<std::uint8_t>;
constexpr std::size_t MOST_PIXELS = std::size_t{1} << 26;
constexpr int LONGEST_CODE = 15;

[[noreturn]] void refuse(const std::string& why) { throw BundleError("a PNG file is damaged or of another kind: " + why); }

class Bits {  // of a deflate stream, the lowest of a byte first
public:
    Bits(const Bytes& data, std::size_t place) : data_(data), place_(place) {}

    unsigned read(int count) {
        while (held_ < count) {
            if (place_ >= data_.size()) refuse("it ends too early");
            bits_ |= static_cast<std::uint32_t>(data_[place_++]) << held_;
            held_ += 8;
        }
        const unsigned value = bits_ & ((1U << count) - 1);
        bits_ >>= count;
        held_ -= count;
        return value;
    }

    void skip_to_byte() { bits_ = 0, held_ = 0; }  // fewer than 8 bits are ever held back

private:
    const Bytes& data_;
    std::size_t place_;
    std::uint32_t bits_ = 0;
    int held_ = 0;
};

class Codes {  // canonical Huffman codes by their lengths
public:
    explicit Codes(const std::vector<unsigned>& lengths) {
        for (const unsigned length : lengths) ++counts_[length];
        counts_[0] = 0;
        std::size_t places[LONGEST_CODE + 2] = {};
        for (int length = 1; length <= LONGEST_CODE; ++length) places[length + 1] = places[length] + counts_[length];
        symbols_.resize(places[LONGEST_CODE + 1]);
        for (std::size_t symbol = 0; symbol < lengths.size(); ++symbol)
            if (lengths[symbol] != 0) symbols_[places[lengths[symbol]]++] = static_cast<unsigned>(symbol);
    }

    unsigned read(Bits& bits) const {
        std::size_t code = 0, first = 0, place = 0;
        for (int length = 1; length <= LONGEST_CODE; ++length) {
            code |= bits.read(1);
            if (code < first + counts_[length]) return symbols_[place + code - first];
            place += counts_[length];
            first = (first + counts_[length]) * 2;
            code *= 2;
        }
        refuse("a code that stands for nothing");
    }

private:
    std::size_t counts_[LONGEST_CODE + 1] = {};
    std::vector<unsigned> symbols_;
};

struct Tables {
    Codes lengths, distances;
};

Tables fixed_tables() {
    std::vector<unsigned> lengths(288, 8);
    std::fill(lengths.begin() + 144, lengths.begin() + 256, 9U);
    std::fill(lengths.begin() + 256, lengths.begin() + 280, 7U);
    return {Codes(lengths), Codes(std::vector<unsigned>(30, 5))};
}

Tables read_tables(Bits& bits) {
    static constexpr std::size_t ORDER[] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    const std::size_t literals = bits.read(5) + 257, distances = bits.read(5) + 1, count = bits.read(4) + 4;
    std::vector<unsigned> of_codes(19, 0), lengths;
    for (std::size_t i = 0; i < count; ++i) of_codes[ORDER[i]] = bits.read(3);
    const Codes codes(of_codes);
    while (lengths.size() < literals + distances) {
        const unsigned symbol = codes.read(bits);
        if (symbol == 16 && lengths.empty()) refuse("a repeated length that has none before it");
        const unsigned value = symbol < 16 ? symbol : symbol == 16 ? lengths.back() : 0;
        const unsigned times = symbol < 16 ? 1 : symbol == 16 ? 3 + bits.read(2) : symbol == 17 ? 3 + bits.read(3) : 11 + bits.read(7);
        lengths.insert(lengths.end(), times, value);
    }
    if (lengths.size() != literals + distances) refuse("too many lengths of codes");
    const auto middle = lengths.begin() + static_cast<std::ptrdiff_t>(literals);
    return {Codes({lengths.begin(), middle}), Codes({middle, lengths.end()})};
}

void copy_stored(Bits& bits, Bytes& out, std::size_t most) {
    bits.skip_to_byte();
    const unsigned size = bits.read(16), inverted = bits.read(16);
    if ((size ^ inverted) != 0xFFFF || out.size() + size > most) refuse("a stored block of a wrong size");
    for (unsigned i = 0; i < size; ++i) out.push_back(static_cast<std::uint8_t>(bits.read(8)));
}

void unpack_block(Bits& bits, const Tables& tables, Bytes& out, std::size_t most) {
    static constexpr unsigned LENGTHS[] = {3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
    static constexpr unsigned DISTANCES[] = {1,   2,   3,   4,   5,   7,    9,    13,   17,   25,   33,   49,   65,    97,    129,
                                             193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
    for (;;) {
        const unsigned symbol = tables.lengths.read(bits);
        if (symbol == 256) return;
        if (symbol < 256) {
            if (out.size() >= most) refuse("more data than its size says");
            out.push_back(static_cast<std::uint8_t>(symbol));
            continue;
        }
        if (symbol > 285) refuse("a length that stands for nothing");
        const unsigned place = symbol - 257, length_bits = place < 8 || place == 28 ? 0 : place / 4 - 1;
        const std::size_t length = LENGTHS[place] + bits.read(static_cast<int>(length_bits));
        const unsigned far = tables.distances.read(bits);
        if (far > 29) refuse("a distance that stands for nothing");
        const std::size_t distance = DISTANCES[far] + bits.read(static_cast<int>(far < 4 ? 0 : far / 2 - 1));
        if (distance > out.size() || out.size() + length > most) refuse("a copy from before its beginning");
        for (std::size_t i = 0; i < length; ++i) out.push_back(out[out.size() - distance]);
    }
}

Bytes unpack(const Bytes& stream, std::size_t size) {  // a zlib stream of so many bytes
    if (stream.size() < 2 || (stream[0] & 0x0FU) != 8 || (stream[1] & 0x20U) != 0) refuse("no zlib stream");
    Bits bits(stream, 2);
    Bytes out;
    out.reserve(size);
    for (bool is_last = false; !is_last;) {
        is_last = bits.read(1) != 0;
        const unsigned kind = bits.read(2);
        if (kind == 3) refuse("a block of no kind");
        if (kind == 0)
            copy_stored(bits, out, size);
        else
            unpack_block(bits, kind == 1 ? fixed_tables() : read_tables(bits), out, size);
    }
    if (out.size() != size) refuse("less data than its size says");
    return out;
}

std::uint8_t predict(unsigned filter, int left, int above, int corner) {
    if (filter == 1) return static_cast<std::uint8_t>(left);
    if (filter == 2) return static_cast<std::uint8_t>(above);
    if (filter == 3) return static_cast<std::uint8_t>((left + above) / 2);
    if (filter != 4) return 0;
    const int estimate = left + above - corner;  // Paeth
    const int a = std::abs(estimate - left), b = std::abs(estimate - above), c = std::abs(estimate - corner);
    return static_cast<std::uint8_t>(a <= b && a <= c ? left : b <= c ? above : corner);
}

Bytes undo_filters(const Bytes& rows, std::size_t width, std::size_t height) {
    const std::size_t stride = 3 * width;
    Bytes rgb(stride * height);
    for (std::size_t y = 0; y < height; ++y) {
        const unsigned filter = rows[y * (stride + 1)];
        if (filter > 4) refuse("a filter of no kind");
        for (std::size_t x = 0; x < stride; ++x) {
            const std::size_t place = y * stride + x;
            const int left = x < 3 ? 0 : rgb[place - 3], above = y == 0 ? 0 : rgb[place - stride];
            const int corner = x < 3 || y == 0 ? 0 : rgb[place - stride - 3];
            rgb[place] = static_cast<std::uint8_t>(rows[y * (stride + 1) + 1 + x] + predict(filter, left, above, corner));
        }
    }
    return rgb;
}

std::size_t read_number(const Bytes& file, std::size_t place) {
    if (place + 4 > file.size()) refuse("it ends too early");
    std::size_t number = 0;
    for (std::size_t i = 0; i < 4; ++i) number = number << 8 | file[place + i];
    return number;
}

}  // namespace

Picture decode_png(const std::vector<std::uint8_t>& file) {
    constexpr std::size_t HEADER = 33;  // the signature, and the chunk IHDR
    if (file.size() < HEADER || file[0] != 0x89 || file[1] != 'P' || file[2] != 'N' || file[3] != 'G') refuse("no such file");
    const std::size_t width = read_number(file, 16), height = read_number(file, 20);
    if (width == 0 || height == 0 || width > MOST_PIXELS || height > MOST_PIXELS / width) refuse("a picture of no possible size");
    if (file[24] != 8 || file[25] != 2 || file[28] != 0) refuse("expected 8 bits, RGB, not interlaced");
    Bytes stream;
    for (std::size_t place = HEADER; place + 12 <= file.size();) {
        const std::size_t size = read_number(file, place);
        const std::string type(file.begin() + static_cast<std::ptrdiff_t>(place) + 4, file.begin() + static_cast<std::ptrdiff_t>(place) + 8);
        if (size > file.size() - place - 12) refuse("a chunk longer than the file");
        const auto begin = file.begin() + static_cast<std::ptrdiff_t>(place) + 8;
        if (type == "IDAT") stream.insert(stream.end(), begin, begin + static_cast<std::ptrdiff_t>(size));
        if (type == "IEND") break;
        place += 12 + size;
    }
    Picture picture;
    picture.width = static_cast<int>(width);
    picture.height = static_cast<int>(height);
    picture.rgb = undo_filters(unpack(stream, (3 * width + 1) * height), width, height);
    return picture;
}

}  // namespace sprint_export
