// The headers of deploy/cpp that need no TensorRT, word by word on the command line, for test_cpp.py.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "model_info.hpp"
#include "vit/answers.hpp"
#include "vit/checks.hpp"
#include "vit/latency.hpp"
#include "vit/numbers.hpp"
#include "vit/preprocess.hpp"
#include "vit/read.hpp"

namespace {

using Words = std::vector<std::string>;

std::vector<float> floats(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    const std::vector<char> raw((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    std::vector<float> made(raw.size() / sizeof(float));
    std::memcpy(made.data(), raw.data(), made.size() * sizeof(float));
    return made;
}

template <class T>
void save(const std::string& path, const std::vector<T>& values) {
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(T)));
}

std::string quoted(const std::string& text) {  // JSON, for what the tests put in
    std::string made = "\"";
    for (const char c : text) {
        made += c == '"' || c == '\\' ? std::string("\\") + c : c == '\n' ? "\\n" : std::string(1, c);
    }
    return made + '"';
}

template <class List, class Say>
std::string json(const List& list, Say say) {
    std::string made;
    for (const auto& one : list) {
        made += (made.empty() ? "" : ", ") + say(one);
    }
    return "[" + made + "]";
}

std::string number(double x) {
    char text[40];
    std::snprintf(text, sizeof text, "%.17g", x);
    return text;
}

std::string tensor(const vit::Tensor& t) {
    return "{\"name\": " + quoted(t.name) + ", \"dtype\": " + quoted(t.dtype) + ", \"shape\": " +
           json(t.dims, [](std::int64_t n) { return std::to_string(n); }) + "}";
}

void info(const Words&) {
    const auto& m = model_info();
    const auto& how = m.preprocessing;
    std::cout << "{\"model\": " << quoted(m.model) << ", \"precision\": " << quoted(m.precision)
              << ", \"backend\": " << quoted(m.backend) << ", \"backend_version\": " << quoted(m.backend_version)
              << ", \"targets\": " << json(m.targets, quoted) << ", \"sha256\": " << quoted(m.engine_sha256)
              << ", \"bytes\": " << m.engine_bytes << ", \"batch\": [" << m.batch.min << ", " << m.batch.opt << ", "
              << m.batch.max << "], \"inputs\": " << json(m.inputs, tensor) << ", \"outputs\": " << json(m.outputs, tensor)
              << ", \"size\": [" << how.height << ", " << how.width << "], \"mean\": " << json(how.mean, number)
              << ", \"std\": " << json(how.std, number) << ", \"interpolation\": " << quoted(how.interpolation)
              << ", \"crop_pct\": " << number(how.crop_pct) << ", \"mode\": " << quoted(how.mode)
              << ", \"labels\": " << json(m.labels, quoted) << ", \"rebuild\": " << quoted(m.rebuild) << "}\n";
}

// sha256 FILE PIECE: hashed in pieces of so many bytes.
void sha256(const Words& w) {
    std::ifstream file(w.at(0), std::ios::binary);
    std::vector<char> piece(std::stoul(w.at(1)));
    vit::Sha256 hash;
    while (file.read(piece.data(), static_cast<std::streamsize>(piece.size())) || file.gcount() > 0) {
        hash.update(piece.data(), static_cast<std::size_t>(file.gcount()));
    }
    std::cout << hash.hex() << "\n";
}

// preprocess HEIGHT WIDTH INTERPOLATION CROP_PCT MODE IMAGE OUT [IMAGE OUT ...]; mean and std are the model's.
void preprocess(const Words& w) {
    vit::Preprocessing how = model_info().preprocessing;
    how.height = std::stoi(w.at(0));
    how.width = std::stoi(w.at(1));
    how.interpolation = w.at(2);
    how.crop_pct = std::stod(w.at(3));
    how.mode = w.at(4);
    for (std::size_t i = 5; i + 1 < w.size(); i += 2) {
        std::vector<float> pixels(std::size_t(how.height) * std::size_t(how.width) * 3);
        vit::preprocess(vit::read_image(w[i]), how, pixels.data());
        save(w[i + 1], pixels);
    }
}

// window HEIGHT WIDTH CROP_PCT MODE of a picture of PICTURE_HEIGHT PICTURE_WIDTH.
void window(const Words& w) {
    vit::Preprocessing how = model_info().preprocessing;
    how.height = std::stoi(w.at(0));
    how.width = std::stoi(w.at(1));
    how.crop_pct = std::stod(w.at(2));
    how.mode = w.at(3);
    vit::Image image;
    image.height = std::stoi(w.at(4));
    image.width = std::stoi(w.at(5));
    std::cout << json(vit::window(image, how), number) << "\n";
}

// narrow DTYPE IN OUT BACK: FP32 as DTYPE, and widened again.
void narrow(const Words& w) {
    const auto wide = floats(w.at(1));
    std::vector<std::uint16_t> made(wide.size());
    vit::narrow(wide.data(), wide.size(), w.at(0), made.data());
    save(w.at(2), made);
    std::vector<float> back(wide.size());
    vit::widen(made.data(), made.size(), w.at(0), back.data());
    save(w.at(3), back);
}

void engine(const Words& w) { std::cout << vit::read_engine(w.at(0), model_info()).size() << "\n"; }
void library(const Words& w) {
    vit::check_library(model_info(), {std::stoi(w.at(0)), std::stoi(w.at(1)), std::stoi(w.at(2))});
}
void gpu(const Words& w) {
    vit::check_capability(model_info(), vit::capability(std::stoi(w.at(0)), std::stoi(w.at(1))));
}
void batch(const Words& w) { vit::check_batch(model_info(), std::stoi(w.at(0))); }

// summary FILE: of the FP32 values in FILE.
void summary(const Words& w) {
    const auto values = floats(w.at(0));
    const auto s = vit::summary(std::vector<double>(values.begin(), values.end()));
    std::cout << json(std::vector<double>{double(s.queries), s.min, s.mean, s.p50, s.p90, s.p95, s.p99, s.max}, number) << "\n";
}

// measure WARM_UP_MS DURATION_S ITERATIONS STEP_MS: a query takes STEP_MS of a clock that stands still otherwise.
void measure(const Words& w) {
    double now = 0;
    int ran = 0;
    const double step = std::stod(w.at(3));
    const vit::Plan plan{std::stod(w.at(0)), std::stod(w.at(1)), std::stoi(w.at(2))};
    const auto made = vit::measure(
        plan,
        [&] {
            now += step;
            ++ran;
            return vit::Query{step, 0, step, 0, 0, step};
        },
        [&] { return now; });
    std::cout << "[" << ran - static_cast<int>(made.queries.size()) << ", " << made.queries.size() << ", "
              << number(made.seconds) << "]\n";
}

std::string answer(const vit::Answer& a) {
    return "[" + std::to_string(a.index) + ", " + number(a.share) + ", " + json(a.box, number) + "]";
}

void classes(const Words& w) {
    const auto logits = floats(w.at(0));
    std::cout << json(vit::classes(logits.data(), logits.size(), std::stoul(w.at(1))), answer) << "\n";
}
void boxes(const Words& w) {
    const auto logits = floats(w.at(0)), places = floats(w.at(1));
    const std::size_t queries = places.size() / 4;
    const auto found = vit::boxes(logits.data(), places.data(), queries, logits.size() / queries, std::stoul(w.at(2)));
    std::cout << json(found, answer) << "\n";
}

}  // namespace

int main(int count, char** words) {
    const std::vector<std::pair<std::string, void (*)(const Words&)>> verbs{
        {"info", info},       {"sha256", sha256},   {"preprocess", preprocess}, {"window", window}, {"narrow", narrow},
        {"engine", engine},   {"library", library}, {"gpu", gpu},               {"batch", batch},
        {"summary", summary}, {"measure", measure}, {"classes", classes},       {"boxes", boxes}};
    try {
        for (const auto& [name, verb] : verbs) {
            if (count > 1 && name == words[1]) {
                verb(Words(words + 2, words + count));
                return 0;
            }
        }
    } catch (const vit::Error& error) {
        std::cerr << "error: " << error.what() << "\n";
        return 2;
    }
    std::cerr << "no such verb\n";
    return 3;
}
