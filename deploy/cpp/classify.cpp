// classify ENGINE PHOTO.png ...: the five surest classes of each picture.
#include <cstdio>
#include <exception>
#include <iostream>
#include <vector>

#include "model_info.hpp"
#include "vit/answers.hpp"
#include "vit/engine.hpp"
#include "vit/preprocess.hpp"
#include "vit/read.hpp"

int main(int count, char** words) {
    if (count < 3) {
        std::cerr << "usage: classify ENGINE PHOTO.png ...\n";
        return 2;
    }
    try {
        vit::Engine engine(words[1], model_info());
        const auto& info = engine.info();
        const int batch = info.batch.min;  // one picture at a time; a static batch runs with empty rows
        std::vector<float> pixels(info.inputs.front().elements() * std::size_t(batch));
        for (int i = 2; i < count; ++i) {
            vit::preprocess(vit::read_image(words[i]), info.preprocessing, pixels.data());
            engine.run(pixels.data(), batch);
            std::cout << words[i] << "\n";
            const auto logits = engine.output(0, batch);
            for (const auto& answer : vit::classes(logits.data(), info.outputs.front().elements(), 5)) {
                std::printf("  %6.2f %%  %s\n", 100 * answer.share, info.label(answer.index).c_str());
            }
            std::fflush(stdout);
        }
    } catch (const std::exception& error) {
        std::cerr << "error: " << error.what() << "\n";
        return 2;
    }
}
