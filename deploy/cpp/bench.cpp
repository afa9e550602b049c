// bench ENGINE [--batch=N] [--warmUp=MS] [--duration=S] [--iterations=N] [--noGraph]: trtexec's defaults and percentiles.
// One query is in flight at a time; latency is by the GPU's events, enqueue and host by the host's clock.
#include <cstdio>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "model_info.hpp"
#include "vit/engine.hpp"
#include "vit/latency.hpp"

int main(int count, char** words) {
    try {
        vit::Plan plan;
        int batch = model_info().batch.opt;
        bool graphs = true;
        std::string path;
        for (int i = 1; i < count; ++i) {
            const std::string word = words[i];
            const std::string value = word.substr(word.find('=') + 1);
            if (word.rfind("--batch=", 0) == 0) {
                batch = std::stoi(value);
            } else if (word.rfind("--warmUp=", 0) == 0) {
                plan.warm_up_ms = std::stod(value);
            } else if (word.rfind("--duration=", 0) == 0) {
                plan.duration_s = std::stod(value);
            } else if (word.rfind("--iterations=", 0) == 0) {
                plan.iterations = std::stoi(value);
            } else if (word == "--noGraph") {
                graphs = false;
            } else if (path.empty() && word.rfind("--", 0) != 0) {
                path = word;
            } else {
                throw vit::Error("bench does not know a word", word,
                                 "ENGINE [--batch=N] [--warmUp=MS] [--duration=S] [--iterations=N] [--noGraph]");
            }
        }
        if (path.empty() || plan.iterations < 1) {
            throw vit::Error("bench needs an engine and at least one iteration", "", "bench model.engine");
        }
        vit::check_batch(model_info(), batch);
        vit::Engine engine(path, model_info(), graphs);
        const std::vector<float> pixels(model_info().inputs.front().elements() * std::size_t(batch));
        const auto made = vit::measure(plan, [&] { return engine.run(pixels.data(), batch); }, vit::milliseconds);
        const double queries = double(made.queries.size());
        std::printf("%s %s, batch %d, %s CUDA graphs: %.1f queries/s, %.1f images/s\n", model_info().model.c_str(),
                    model_info().precision.c_str(), batch, graphs ? "with" : "without", queries / made.seconds,
                    queries * batch / made.seconds);
        std::printf("%-8s %9s %9s %9s %9s %9s %9s %9s  ms\n", "", "min", "mean", "p50", "p90", "p95", "p99", "max");
        const std::vector<std::pair<const char*, double vit::Query::*>> quantities{
            {"latency", &vit::Query::latency}, {"h2d", &vit::Query::h2d},         {"gpu", &vit::Query::gpu},
            {"d2h", &vit::Query::d2h},         {"enqueue", &vit::Query::enqueue}, {"host", &vit::Query::host}};
        for (const auto& [name, quantity] : quantities) {
            std::vector<double> values;
            for (const auto& query : made.queries) {
                values.push_back(query.*quantity);
            }
            const auto s = vit::summary(values);
            std::printf("%-8s %9.4f %9.4f %9.4f %9.4f %9.4f %9.4f %9.4f\n", name, s.min, s.mean, s.p50, s.p90, s.p95,
                        s.p99, s.max);
        }
    } catch (const std::logic_error&) {  // of std::stoi and std::stod
        std::cerr << "error: bench: a value behind = is no number that fits\n";
        return 2;
    } catch (const std::exception& error) {
        std::cerr << "error: " << error.what() << "\n";
        return 2;
    }
}
