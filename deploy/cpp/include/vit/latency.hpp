// Queries for so long and at least so many, and their statistics, as trtexec defines them. Milliseconds throughout.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <numeric>
#include <string>
#include <vector>

#include "vit/error.hpp"

namespace vit {

// Defaults are trtexec's: --warmUp=200 --duration=3 --iterations=10.
struct Plan {
    double warm_up_ms = 200;
    double duration_s = 3;
    int iterations = 10;
};

// One query: latency = h2d + gpu + d2h by the GPU's events; enqueue is the host's time to ask for all of it, host until
// it is done.
struct Query {
    double latency, h2d, gpu, d2h, enqueue, host;
};

struct Summary {
    std::size_t queries;
    double min, mean, p50, p90, p95, p99, max;
};

// All but the slowest (1 - share / 100) n values are at most this; their number is truncated in single precision.
inline double percentile(const std::vector<double>& ascending, float share) {
    if (ascending.empty() || !(share >= 0 && share <= 100)) {
        throw Error("there is no such percentile", std::to_string(share) + " of " + std::to_string(ascending.size()),
                    "0 to 100 of at least one value");
    }
    const float all = static_cast<float>(ascending.size());
    const auto exclude = static_cast<std::size_t>((1.0F - share / 100.0F) * all);
    return ascending[exclude < ascending.size() ? ascending.size() - 1 - exclude : 0];
}

inline double median(const std::vector<double>& ascending) {
    const std::size_t middle = ascending.size() / 2;
    return ascending.size() % 2 == 1 ? ascending[middle] : (ascending[middle - 1] + ascending[middle]) / 2;
}

inline Summary summary(std::vector<double> values) {
    if (values.empty()) {
        throw Error("there are no queries to summarise");
    }
    std::sort(values.begin(), values.end());
    const double mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
    return {values.size(), values.front(), mean, median(values), percentile(values, 90), percentile(values, 95),
            percentile(values, 99), values.back()};
}

inline double milliseconds() {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration<double, std::milli>(now).count();
}

struct Measured {
    std::vector<Query> queries;
    double seconds;  // from the first query's start to the last one's end
};

// Warm-up by time, one query at least; then until both the iterations and the duration are reached. `run()` is one
// query, `clock()` milliseconds.
template <class Run, class Clock>
Measured measure(const Plan& plan, Run run, Clock clock) {
    const double warm = clock();
    do {
        run();
    } while (clock() - warm < plan.warm_up_ms);
    Measured made{{}, 0};
    const double started = clock();
    while (made.queries.size() < static_cast<std::size_t>(plan.iterations) || clock() - started < plan.duration_s * 1e3) {
        made.queries.push_back(run());
    }
    made.seconds = (clock() - started) / 1e3;
    return made;
}

}  // namespace vit
