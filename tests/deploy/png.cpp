// deploy/cpp's reader of pictures alone, for test_png.py: compiled with sanitizers where the compiler has them.
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>

#include "vit/read.hpp"

namespace {

using vit::detail::Bytes;

// Whether the bytes are read, as what; an exception of another kind than vit::Error ends the program.
bool reads(const Bytes& file, vit::Image& image) {
    try {
        image = vit::read_png("a.png", file);
        return true;
    } catch (const vit::Error&) {
        return false;
    }
}

// Puts the right CRC behind every chunk, so that what is damaged inside reaches the decoder.
void repair(Bytes& file) {
    for (std::size_t at = 8; file.size() - at >= 12;) {
        const std::size_t size = vit::detail::big_endian(&file[at]);
        if (size > file.size() - at - 12) {
            return;
        }
        const std::uint32_t crc = vit::detail::crc32(&file[at + 4], size + 4);
        for (int i = 0; i < 4; ++i) {
            file[at + 8 + size + std::size_t(i)] = static_cast<unsigned char>(crc >> (24 - 8 * i));
        }
        at += size + 12;
    }
}

// "refused alike other" of every beginning, of every byte changed three ways, and of the same with checksums repaired.
void damage(const Bytes& file) {
    vit::Image whole, image;
    if (!reads(file, whole)) {
        throw vit::Error("the file itself is not read");
    }
    long counts[3][3] = {};
    const auto judge = [&](const Bytes& bytes, int kind) {
        ++counts[kind][!reads(bytes, image) ? 0 : image.rgb == whole.rgb && image.width == whole.width ? 1 : 2];
    };
    for (std::size_t size = 0; size < file.size(); ++size) {
        judge(Bytes(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size)), 0);
    }
    for (std::size_t i = 0; i < file.size(); ++i) {
        for (const int change : {0x01, 0x80, 0xFF}) {
            Bytes bytes = file;
            bytes[i] = static_cast<unsigned char>(bytes[i] ^ change);
            judge(bytes, 1);
            repair(bytes);
            judge(bytes, 2);
        }
    }
    for (const auto& kind : counts) {
        std::cout << kind[0] << " " << kind[1] << " " << kind[2] << "\n";
    }
}

}  // namespace

// read IN OUT: "width height" to standard output, RGB to OUT; damage IN.
int main(int count, char** words) {
    try {
        if (count == 4 && std::string(words[1]) == "read") {
            const vit::Image image = vit::read_image(words[2]);
            std::ofstream(words[3], std::ios::binary)
                .write(reinterpret_cast<const char*>(image.rgb.data()), static_cast<std::streamsize>(image.rgb.size()));
            std::cout << image.width << " " << image.height << "\n";
        } else if (count == 3 && std::string(words[1]) == "damage") {
            std::ifstream file(words[2], std::ios::binary);
            damage(Bytes(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()));
        } else {
            return 3;
        }
    } catch (const vit::Error& error) {
        std::cerr << "error: " << error.what() << "\n";
        return 2;
    }
}
