// A zlib stream unpacked to a size that is known before: RFC 1950 (zlib) and RFC 1951 (deflate).
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace vit {
namespace detail {

// What is wrong with a file, for whoever knows the file's name.
struct Damaged {
    const char* why;
};

using Bytes = std::vector<unsigned char>;

// A canonical Huffman code as a table over the next bits of the stream; an entry is symbol * 16 + length, 0 is no code.
class Huffman {
public:
    Huffman(const unsigned char* lengths, std::size_t count) {
        std::array<std::uint32_t, 16> of_length{}, next{};
        for (std::size_t i = 0; i < count; ++i) {
            bits_ = std::max(bits_, unsigned(lengths[i]));
            ++of_length[lengths[i]];
        }
        std::uint32_t code = 0, room = 1;
        for (unsigned length = 1; length < 16; ++length) {
            code = (code + (length > 1 ? of_length[length - 1] : 0)) << 1;
            next[length] = code;
            room = room * 2 - of_length[length];
            if (room > (1U << 15)) {  // below zero: more codes than fit
                throw Damaged{"an impossible Huffman code"};
            }
        }
        table_.assign(std::size_t(1) << bits_, 0);
        for (std::size_t i = 0; i < count; ++i) {
            const unsigned length = lengths[i];
            if (length == 0) {
                continue;
            }
            std::uint32_t reversed = 0;  // codes are sent from their highest bit on
            for (unsigned bit = 0, value = next[length]++; bit < length; ++bit, value >>= 1) {
                reversed = reversed << 1 | (value & 1);
            }
            for (std::size_t at = reversed; at < table_.size(); at += std::size_t(1) << length) {
                table_[at] = static_cast<std::uint16_t>(i << 4 | length);
            }
        }
    }

    std::uint16_t entry(std::uint64_t bits) const { return table_[std::size_t(bits) & (table_.size() - 1)]; }

private:
    unsigned bits_ = 0;
    std::vector<std::uint16_t> table_;
};

class Inflate {
public:
    Inflate(const Bytes& data, std::size_t size) : data_(data), size_(size) { out_.reserve(size); }

    Bytes run() {
        const unsigned method = take(8), flags = take(8);
        if ((method & 15) != 8 || method >> 4 > 7 || (method * 256 + flags) % 31 != 0 || (flags & 32) != 0) {
            throw Damaged{"no zlib stream"};
        }
        for (bool last = false; !last;) {
            last = take(1) != 0;
            const unsigned kind = take(2);
            if (kind == 0) {
                stored();
            } else if (kind == 1) {
                fixed();
            } else if (kind == 2) {
                dynamic();
            } else {
                throw Damaged{"an unknown kind of compressed block"};
            }
        }
        to_byte();
        std::uint32_t expected = 0;
        for (int i = 0; i < 4; ++i) {
            expected = expected << 8 | take(8);
        }
        if (out_.size() != size_) {
            throw Damaged{"fewer pixels than its header says"};
        }
        if (adler() != expected) {
            throw Damaged{"pixels that do not fit their checksum"};
        }
        return std::move(out_);
    }

private:
    void refill() {
        while (count_ <= 56 && at_ < data_.size()) {
            hold_ |= std::uint64_t(data_[at_++]) << count_;
            count_ += 8;
        }
    }

    void drop(unsigned bits) {
        if (bits > count_) {
            throw Damaged{"compressed data that ends too early"};
        }
        hold_ >>= bits;
        count_ -= bits;
    }

    unsigned take(unsigned bits) {  // at most 16
        refill();
        const auto value = static_cast<unsigned>(hold_ & ((1U << bits) - 1));
        drop(bits);
        return value;
    }

    void to_byte() { drop(count_ % 8); }

    unsigned symbol(const Huffman& code) {
        refill();
        const std::uint16_t entry = code.entry(hold_);
        if (entry == 0) {
            throw Damaged{"bits that are no code"};
        }
        drop(entry & 15);
        return entry >> 4;
    }

    void room(std::size_t more) const {
        if (more > size_ - out_.size()) {
            throw Damaged{"more pixels than its header says"};
        }
    }

    void stored() {
        to_byte();
        const unsigned length = take(16), complement = take(16);
        if (length != (complement ^ 0xFFFFU)) {
            throw Damaged{"a damaged block of plain data"};
        }
        room(length);
        for (unsigned i = 0; i < length; ++i) {
            out_.push_back(static_cast<unsigned char>(take(8)));
        }
    }

    void fixed() {
        std::array<unsigned char, 288> lengths{};
        for (std::size_t i = 0; i < lengths.size(); ++i) {
            lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
        }
        std::array<unsigned char, 30> distances{};
        distances.fill(5);
        block(Huffman(lengths.data(), lengths.size()), Huffman(distances.data(), distances.size()));
    }

    void dynamic() {
        static constexpr std::array<unsigned char, 19> ORDER{16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
                                                             11, 4,  12, 3, 13, 2, 14, 1, 15};
        const std::size_t literals = take(5) + 257, distances = take(5) + 1, codes = take(4) + 4;
        if (literals > 286 || distances > 30) {
            throw Damaged{"a Huffman code of too many symbols"};
        }
        std::array<unsigned char, 19> few{};
        for (std::size_t i = 0; i < codes; ++i) {
            few[ORDER[i]] = static_cast<unsigned char>(take(3));
        }
        const Huffman code(few.data(), few.size());
        std::array<unsigned char, 316> lengths{};
        for (std::size_t i = 0; i < literals + distances;) {
            const unsigned next = symbol(code);
            if (next < 16) {
                lengths[i++] = static_cast<unsigned char>(next);
                continue;
            }
            if (next == 16 && i == 0) {
                throw Damaged{"a length that repeats nothing"};
            }
            const unsigned char value = next == 16 ? lengths[i - 1] : 0;
            const std::size_t times = next == 16 ? 3 + take(2) : next == 17 ? 3 + take(3) : 11 + take(7);
            if (times > literals + distances - i) {
                throw Damaged{"a Huffman code of too many lengths"};
            }
            std::fill_n(lengths.begin() + static_cast<std::ptrdiff_t>(i), times, value);
            i += times;
        }
        block(Huffman(lengths.data(), literals), Huffman(lengths.data() + literals, distances));
    }

    void block(const Huffman& literals, const Huffman& distances) {
        static constexpr std::array<unsigned short, 29> LENGTH{3,  4,  5,  6,  7,  8,  9,  10, 11,  13,
                                                               15, 17, 19, 23, 27, 31, 35, 43, 51,  59,
                                                               67, 83, 99, 115, 131, 163, 195, 227, 258};
        static constexpr std::array<unsigned char, 29> LENGTH_BITS{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                                                   2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
        for (;;) {
            const unsigned next = symbol(literals);
            if (next == 256) {
                return;
            }
            if (next < 256) {
                room(1);
                out_.push_back(static_cast<unsigned char>(next));
                continue;
            }
            if (next > 285) {
                throw Damaged{"a length that is none"};
            }
            const std::size_t length = LENGTH[next - 257] + take(LENGTH_BITS[next - 257]);
            const unsigned slot = symbol(distances);
            if (slot > 29) {
                throw Damaged{"a distance that is none"};
            }
            const unsigned extra = slot < 2 ? 0 : slot / 2 - 1;
            const std::size_t base = slot < 2 ? slot + 1 : ((2 + (slot & 1)) << extra) + 1;
            const std::size_t distance = base + take(extra);
            if (distance > out_.size()) {
                throw Damaged{"a distance beyond the beginning"};
            }
            room(length);
            for (std::size_t i = 0, from = out_.size() - distance; i < length; ++i) {
                out_.push_back(out_[from + i]);
            }
        }
    }

    std::uint32_t adler() const {
        std::uint32_t a = 1, b = 0;
        for (std::size_t i = 0; i < out_.size();) {
            for (const std::size_t end = std::min(out_.size(), i + 5552); i < end; ++i) {  // as many as 32 bits hold
                a += out_[i];
                b += a;
            }
            a %= 65521;
            b %= 65521;
        }
        return b << 16 | a;
    }

    const Bytes& data_;
    std::size_t size_, at_ = 0;
    std::uint64_t hold_ = 0;
    unsigned count_ = 0;
    Bytes out_;
};

// `data` unpacked; Damaged where it is no stream of exactly `size` bytes. Nothing is allocated for a size that a stream
// of this length cannot have: deflate packs at most 1032 bytes into one.
inline Bytes inflate(const Bytes& data, std::size_t size) {
    if (size / 1032 > data.size()) {
        throw Damaged{"too few bytes for as many pixels as its header says"};
    }
    return Inflate(data, size).run();
}

}  // namespace detail
}  // namespace vit
