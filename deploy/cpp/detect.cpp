// detect ENGINE PHOTO.png ...: the surest boxes of each picture, in its own pixels: left, top, right, bottom.
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
        std::cerr << "usage: detect ENGINE PHOTO.png ...\n";
        return 2;
    }
    try {
        std::size_t logits = model_info().outputs.size(), boxes = logits;
        for (std::size_t i = 0; i < model_info().outputs.size(); ++i) {
            logits = model_info().outputs[i].name == "logits" ? i : logits;
            boxes = model_info().outputs[i].name == "boxes" ? i : boxes;
        }
        if (logits == model_info().outputs.size() || boxes == model_info().outputs.size()) {
            throw vit::Error(model_info().model + " is no detector", "no outputs logits and boxes", "a detector", "classify");
        }
        vit::Engine engine(words[1], model_info());
        const auto& info = engine.info();
        const int batch = info.batch.min;
        const auto queries = static_cast<std::size_t>(info.outputs[boxes].dims[0]);
        const std::size_t classes = info.outputs[logits].elements() / queries;
        std::vector<float> pixels(info.inputs.front().elements() * std::size_t(batch));
        for (int i = 2; i < count; ++i) {
            const auto image = vit::read_image(words[i]);
            const auto [left, top, width, height] = vit::window(image, info.preprocessing);
            vit::preprocess(image, info.preprocessing, pixels.data());
            engine.run(pixels.data(), batch);
            std::cout << words[i] << "\n";
            const auto scores = engine.output(logits, batch), places = engine.output(boxes, batch);
            for (const auto& a : vit::boxes(scores.data(), places.data(), queries, classes, 10)) {
                std::printf("  %6.2f %%  %6.0f %6.0f %6.0f %6.0f  %s\n", 100 * a.share, left + a.box[0] * width,
                            top + a.box[1] * height, left + a.box[2] * width, top + a.box[3] * height,
                            info.label(a.index).c_str());
            }
            std::fflush(stdout);
        }
    } catch (const std::exception& error) {
        std::cerr << "error: " << error.what() << "\n";
        return 2;
    }
}
