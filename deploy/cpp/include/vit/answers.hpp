// Outputs to answers: the surest classes, or the surest boxes of a detector, as exporter.runtime gives them.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <utility>
#include <vector>

#include "vit/model.hpp"

namespace vit {

struct Answer {
    std::size_t index;
    double share;  // by softmax
    std::array<double, 4> box;  // left, top, right, bottom in shares of the model's input; zeros where there is none
};

inline std::vector<double> softmax(const float* x, std::size_t count) {
    const double most = *std::max_element(x, x + count);
    std::vector<double> made(count);
    std::transform(x, x + count, made.begin(), [most](float v) { return std::exp(v - most); });
    const double sum = std::accumulate(made.begin(), made.end(), 0.0);
    for (double& v : made) {
        v /= sum;
    }
    return made;
}

namespace detail {

inline std::vector<Answer> surest(std::vector<Answer> all, std::size_t top) {
    std::stable_sort(all.begin(), all.end(), [](const Answer& a, const Answer& b) { return a.share > b.share; });
    all.resize(std::min(top, all.size()));
    return all;
}

}  // namespace detail

// The `top` surest of one row of class scores.
inline std::vector<Answer> classes(const float* logits, std::size_t count, std::size_t top) {
    const auto shares = softmax(logits, count);
    std::vector<Answer> all;
    for (std::size_t i = 0; i < count; ++i) {
        all.push_back({i, shares[i], {}});
    }
    return detail::surest(std::move(all), top);
}

// The `top` surest queries of one image: scores (queries x count, the last class is "no object") and boxes (queries x 4:
// centre x, centre y, width, height).
inline std::vector<Answer> boxes(const float* logits, const float* places, std::size_t queries, std::size_t count,
                                 std::size_t top) {
    std::vector<Answer> all;
    for (std::size_t q = 0; q < queries; ++q) {
        const auto shares = softmax(logits + q * count, count);
        const auto best = std::max_element(shares.begin(), shares.end() - 1);
        const double x = places[q * 4], y = places[q * 4 + 1], w = places[q * 4 + 2], h = places[q * 4 + 3];
        all.push_back({static_cast<std::size_t>(best - shares.begin()), *best,
                       {x - w / 2, y - h / 2, x + w / 2, y + h / 2}});
    }
    return detail::surest(std::move(all), top);
}

}  // namespace vit
