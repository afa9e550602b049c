// PNG: 1 to 8 bits of grey, grey and alpha, RGB, RGBA and palette, not interlaced. Alpha and transparency are dropped.
//
// PNG (Portable Network Graphics) Specification, W3C, third edition. Every chunk's CRC is checked.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "vit/image.hpp"
#include "vit/inflate.hpp"

namespace vit {
namespace detail {

constexpr std::array<unsigned char, 8> PNG_SIGNATURE{0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};

inline std::uint32_t big_endian(const unsigned char* p) {
    return std::uint32_t(p[0]) << 24 | std::uint32_t(p[1]) << 16 | std::uint32_t(p[2]) << 8 | p[3];
}

inline std::uint32_t crc32(const unsigned char* data, std::size_t size) {
    static const auto table = [] {
        std::array<std::uint32_t, 256> made{};
        for (std::uint32_t i = 0; i < 256; ++i) {
            std::uint32_t value = i;
            for (int bit = 0; bit < 8; ++bit) {
                value = (value & 1) != 0 ? 0xEDB88320U ^ value >> 1 : value >> 1;
            }
            made[i] = value;
        }
        return made;
    }();
    std::uint32_t crc = 0xFFFFFFFFU;
    for (std::size_t i = 0; i < size; ++i) {
        crc = table[(crc ^ data[i]) & 255] ^ crc >> 8;
    }
    return ~crc;
}

// What the chunks of a file say, its pixels still packed.
struct Png {
    std::uint32_t width = 0, height = 0;
    unsigned depth = 0, colour = 0;
    Bytes palette, packed;

    bool indexed() const { return colour == 3; }
    unsigned channels() const { return indexed() ? 1 : (colour & 2 ? 3 : 1) + (colour & 4 ? 1 : 0); }
    std::size_t row() const { return (std::size_t(width) * channels() * depth + 7) / 8; }
};

inline void header(Png& png, const unsigned char* data, std::size_t size) {
    if (size != 13) {
        throw Damaged{"a damaged header"};
    }
    png.width = big_endian(data);
    png.height = big_endian(data + 4);
    png.depth = data[8];
    png.colour = data[9];
    if (png.width == 0 || png.height == 0 || png.width > 0x7FFFFFFF || png.height > 0x7FFFFFFF) {
        throw Damaged{"a damaged header"};
    }
    const bool grey = png.colour == 0;
    const bool known = grey || png.colour == 2 || png.indexed() || png.colour == 4 || png.colour == 6;
    if (known && png.depth == 16 && !png.indexed()) {
        throw Damaged{"16 bits a channel"};
    }
    const bool few = (grey || png.indexed()) && (png.depth == 1 || png.depth == 2 || png.depth == 4);
    if (!known || (png.depth != 8 && !few) || data[10] != 0 || data[11] != 0 || data[12] > 1) {
        throw Damaged{"a damaged header"};
    }
    if (data[12] == 1) {
        throw Damaged{"an interlaced picture"};
    }
}

// The chunks of a file, from IHDR to IEND.
inline Png chunks(const std::string& path, const Bytes& file) {
    if (file.size() < PNG_SIGNATURE.size() || !std::equal(PNG_SIGNATURE.begin(), PNG_SIGNATURE.end(), file.begin())) {
        throw Damaged{"a file that does not begin as a PNG"};
    }
    Png png;
    std::string before;
    for (std::size_t at = PNG_SIGNATURE.size();;) {
        if (file.size() - at < 12) {
            throw Damaged{"a file that is cut off"};
        }
        const std::size_t size = big_endian(&file[at]);
        if (size > file.size() - at - 12) {
            throw Damaged{"a file that is cut off"};
        }
        const unsigned char* data = file.data() + at + 8;
        if (crc32(data - 4, size + 4) != big_endian(data + size)) {
            throw Damaged{"a chunk that does not fit its checksum"};
        }
        const std::string name(data - 4, data);
        if ((name == "IHDR") != before.empty() || (name == "IDAT" && !png.packed.empty() && before != "IDAT")) {
            throw Damaged{"chunks out of order"};
        }
        if (name == "IHDR") {
            header(png, data, size);
            check_size(path, png.width, png.height);
        } else if (name == "PLTE") {
            if (size == 0 || size % 3 != 0 || size > 768 || !png.packed.empty()) {
                throw Damaged{"a damaged palette"};
            }
            png.palette.assign(data, data + size);
        } else if (name == "IDAT") {
            png.packed.insert(png.packed.end(), data, data + size);
        } else if (name == "IEND") {
            return png;
        } else if (name == "eXIf") {
            throw Damaged{"EXIF tags, whose orientation this reader does not follow"};
        } else if ((static_cast<unsigned char>(name[0]) & 32) == 0) {
            throw Damaged{"a chunk that this reader does not know and that must not be skipped"};
        }
        before = name;
        at += size + 12;
    }
}

inline unsigned char paeth(int left, int up, int corner) {
    const int guess = left + up - corner;
    const int a = std::abs(guess - left), b = std::abs(guess - up), c = std::abs(guess - corner);
    return static_cast<unsigned char>(a <= b && a <= c ? left : b <= c ? up : corner);
}

// Takes the filters off in place; every row has its filter's number before it.
inline void unfilter(Bytes& rows, std::size_t row, std::size_t pixel) {
    const Bytes nothing(row);
    for (std::size_t begin = 0; begin < rows.size(); begin += row + 1) {
        const unsigned filter = rows[begin];
        unsigned char* here = rows.data() + begin + 1;
        const unsigned char* above = begin == 0 ? nothing.data() : here - row - 1;
        if (filter > 4) {
            throw Damaged{"a row with an unknown filter"};
        }
        for (std::size_t i = 0; i < row; ++i) {
            const int left = i < pixel ? 0 : here[i - pixel], up = above[i], corner = i < pixel ? 0 : above[i - pixel];
            const int guess = filter == 0   ? 0
                              : filter == 1 ? left
                              : filter == 2 ? up
                              : filter == 3 ? (left + up) / 2
                                            : paeth(left, up, corner);
            here[i] = static_cast<unsigned char>(here[i] + guess);
        }
    }
}

}  // namespace detail

// The picture in the bytes of a PNG file; `path` is how errors call it.
inline Image read_png(const std::string& path, const detail::Bytes& file) {
    try {
        const detail::Png png = detail::chunks(path, file);
        if (png.indexed() && png.palette.empty()) {
            throw detail::Damaged{"no palette"};
        }
        detail::Bytes rows = detail::inflate(png.packed, (png.row() + 1) * png.height);
        detail::unfilter(rows, png.row(), png.depth < 8 ? 1 : png.channels());
        Image image(static_cast<int>(png.height), static_cast<int>(png.width));
        const unsigned most = (1U << png.depth) - 1, channels = png.channels();
        for (std::size_t y = 0; y < png.height; ++y) {
            const unsigned char* row = rows.data() + y * (png.row() + 1) + 1;
            unsigned char* to = image.at(static_cast<int>(y), 0);
            for (std::size_t x = 0; x < png.width; ++x, to += 3) {
                const std::size_t bit = x * png.depth;  // of a picture with one channel
                const unsigned value =
                    png.depth == 8 ? row[x * channels] : (row[bit / 8] >> (8 - png.depth - bit % 8)) & most;
                if (png.indexed() && value * 3 >= png.palette.size()) {
                    throw detail::Damaged{"a colour that is not in its palette"};
                }
                for (std::size_t c = 0; c < 3; ++c) {
                    to[c] = png.indexed()  ? png.palette[value * 3 + c]
                            : channels > 2 ? row[x * channels + c]
                                           : static_cast<unsigned char>(value * (255 / most));
                }
            }
        }
        return image;
    } catch (const detail::Damaged& damage) {
        detail::no_image(path, damage.why);
    }
}

}  // namespace vit
