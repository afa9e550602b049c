// Resizing as Pillow does it for 8-bit pictures, bit for bit: separable filters whose support grows with the reduction
// (antialiasing), weights in fixed point with 22 bits, rounded to 8 bits between the horizontal and the vertical pass.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "vit/error.hpp"
#include "vit/image.hpp"

namespace vit {
namespace detail {

constexpr int WEIGHT_BITS = 22;
constexpr double PI = 3.14159265358979323846;

struct Filter {
    double (*weight)(double);
    double support;
};

inline double triangle(double x) {
    x = std::fabs(x);
    return x < 1 ? 1 - x : 0;
}

inline double cubic(double x) {  // Keys 1981 with a = -0.5
    constexpr double a = -0.5;
    x = std::fabs(x);
    if (x < 1) {
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    }
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

inline double sinc(double x) { return x == 0 ? 1 : std::sin(x * PI) / (x * PI); }

inline double lanczos3(double x) { return -3 <= x && x < 3 ? sinc(x) * sinc(x / 3) : 0; }

inline Filter filter(const std::string& name) {
    if (name == "bilinear") {
        return {triangle, 1};
    }
    if (name == "bicubic") {
        return {cubic, 2};
    }
    if (name == "lanczos") {
        return {lanczos3, 3};
    }
    throw Error("there is no interpolation " + name, name, "nearest, bilinear, bicubic or lanczos");
}

// Which inputs an output reads, from first on, and how much of each, as a share of 2^22.
struct Taps {
    int first;
    std::vector<std::int32_t> weights;
};

inline std::vector<Taps> taps(int from, int to, const Filter& filter) {
    const double scale = double(from) / to, stretch = std::max(scale, 1.0), support = filter.support * stretch;
    std::vector<Taps> made;
    made.reserve(static_cast<std::size_t>(to));
    for (int i = 0; i < to; ++i) {
        const double centre = (i + 0.5) * scale;
        const int first = std::max(static_cast<int>(centre - support + 0.5), 0);
        const int last = std::min(static_cast<int>(centre + support + 0.5), from);
        std::vector<double> weights;
        double sum = 0;
        for (int j = first; j < last; ++j) {
            weights.push_back(filter.weight((j - centre + 0.5) * (1.0 / stretch)));
            sum += weights.back();
        }
        Taps one{first, {}};
        for (const double weight : weights) {
            const double share = (sum != 0 ? weight / sum : weight) * (1 << WEIGHT_BITS);
            one.weights.push_back(static_cast<std::int32_t>(share < 0 ? share - 0.5 : share + 0.5));
        }
        made.push_back(std::move(one));
    }
    return made;
}

constexpr std::int32_t HALF = 1 << (WEIGHT_BITS - 1);

inline unsigned char level(std::int32_t sum) { return static_cast<unsigned char>(std::clamp(sum >> WEIGHT_BITS, 0, 255)); }

inline Image horizontally(const Image& image, int width, const Filter& filter) {
    const auto columns = taps(image.width, width, filter);
    Image made(image.height, width);
    for (int y = 0; y < image.height; ++y) {
        unsigned char* into = made.at(y, 0);
        for (const Taps& one : columns) {
            const unsigned char* from = image.at(y, one.first);
            std::int32_t red = HALF, green = HALF, blue = HALF;
            for (const std::int32_t weight : one.weights) {
                red += from[0] * weight;
                green += from[1] * weight;
                blue += from[2] * weight;
                from += 3;
            }
            *into++ = level(red);
            *into++ = level(green);
            *into++ = level(blue);
        }
    }
    return made;
}

inline Image vertically(const Image& image, int height, const Filter& filter) {
    const auto rows = taps(image.height, height, filter);
    Image made(height, image.width);
    std::vector<std::int32_t> sums(std::size_t(image.width) * 3);
    for (int y = 0; y < height; ++y) {
        const Taps& one = rows[static_cast<std::size_t>(y)];
        std::fill(sums.begin(), sums.end(), HALF);
        for (std::size_t j = 0; j < one.weights.size(); ++j) {
            const unsigned char* from = image.at(one.first + static_cast<int>(j), 0);
            for (std::size_t i = 0; i < sums.size(); ++i) {
                sums[i] += from[i] * one.weights[j];
            }
        }
        std::transform(sums.begin(), sums.end(), made.at(y, 0), level);
    }
    return made;
}

inline std::vector<int> nearest(int from, int to) {
    std::vector<int> made;
    const double step = double(from) / to;
    double place = step * 0.5;
    for (int i = 0; i < to; ++i, place += step) {
        made.push_back(std::min(static_cast<int>(place), from - 1));
    }
    return made;
}

}  // namespace detail

inline Image resize(const Image& image, int height, int width, const std::string& interpolation) {
    if (height < 1 || width < 1 || std::uint64_t(height) * std::uint64_t(width) > MAX_PIXELS) {
        throw Error("an image cannot be resized to this", std::to_string(width) + "x" + std::to_string(height) + " pixels",
                    "1 to " + std::to_string(MAX_PIXELS) + " pixels");
    }
    if (height == image.height && width == image.width) {
        return image;
    }
    if (interpolation == "nearest") {
        const auto rows = detail::nearest(image.height, height), columns = detail::nearest(image.width, width);
        Image made(height, width);
        for (int y = 0; y < height; ++y) {
            for (int x = 0; x < width; ++x) {
                std::copy_n(image.at(rows[std::size_t(y)], columns[std::size_t(x)]), 3, made.at(y, x));
            }
        }
        return made;
    }
    const detail::Filter filter = detail::filter(interpolation);
    const Image wide = width == image.width ? image : detail::horizontally(image, width, filter);
    return height == image.height ? wide : detail::vertically(wide, height, filter);
}

}  // namespace vit
