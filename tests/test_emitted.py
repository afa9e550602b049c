import onnx

from exporter.emitted import softmaxes


def test_a_softmax_is_an_attention_where_it_weighs_a_product():
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 22]>
        two (float[2, 4, 4] q, float[2, 4, 4] v) => (float[2, 4, 4] y, float[2, 4, 4] z, float[2, 4, 4] p) {
            [attention] s = Softmax <axis = -1> (q)
            n = IsNaN (s)
            zero = Constant <value_float = 0.0> ()
            g = Where (n, zero, s)
            y = MatMul (g, v)
            [branches] w = Softmax <axis = 0> (v)
            z = Mul (w, q)
            [answer] p = Softmax <axis = -1> (z)
        }
    """)
    assert softmaxes(model) == ["attention"]
