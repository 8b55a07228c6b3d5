import re

import jax
import jax.numpy as jnp
import pytest

from lrsclip_jax import flops, losses
from lrsclip_jax.config import defaults
from lrsclip_jax.models import adapt_rules, zoo
from lrsclip_jax.models.clip import CLIP, init_params
from lrsclip_jax.models.packed import Packed
from lrsclip_jax.parameter_rules import path_of
from lrsclip_jax.sharding import make_mesh

LENGTHS = (24, 9)
BATCH = 4


def model(remat="dense", **fields):
    """A small model whose dimensions are all different."""
    image = {"size": 48, "patch": 12, "width": 96, "heads": 3, "layers": 2, "embed_dim": 40, "remat": remat}
    text = {"vocab_size": 50, "context_length": 24, "width": 64, "heads": 2, "layers": 3, "embed_dim": 40}
    return zoo.create("tiny", image=image | fields, text=text | {"remat": remat, "end_token": 49} | fields)


def model_with_bert(remat="dense", pool="pooler"):
    """The same with the other text tower."""
    image = {"size": 48, "patch": 12, "width": 96, "heads": 3, "layers": 2, "embed_dim": 40, "remat": remat}
    text = {"vocab_size": 50, "context_length": 24, "width": 64, "heads": 2, "layers": 3, "embed_dim": 40}
    return zoo.create("tiny_bert", image=image, text=text | {"remat": remat, "pool": pool})


def model_with_registers(remat="dense"):
    """With DINOv3's parts: registers, rotary positions and gated MLPs."""
    clip = model(remat)
    return clip.clone(image=clip.image.clone(registers=3, rotary_base=100.0, gated=True))


def model_with_resnet(remat="dense"):
    """With CLIP's ResNet as image tower."""
    image = {"kind": "resnet", "size": 64, "width": 8, "stages": (1, 2, 1, 1), "heads": 2, "embed_dim": 40}
    text = {"vocab_size": 50, "context_length": 24, "width": 64, "heads": 2, "layers": 3, "embed_dim": 40}
    return zoo.create("custom", image=image | {"remat": remat}, text=text | {"remat": remat, "end_token": 49})


def inputs(clip: CLIP):
    params = jax.eval_shape(lambda: init_params(clip, jax.random.key(0)))
    images = jax.ShapeDtypeStruct((BATCH, clip.image.size, clip.image.size, 3), jnp.float32)
    return params, images, [jax.ShapeDtypeStruct((BATCH, length), jnp.int32) for length in LENGTHS]


def forward(clip: CLIP):
    return lambda params, images, texts: clip.apply({"params": params}, images, *texts)


def loss(clip: CLIP):
    """Something that needs every embedding, and no product of matrices."""

    def objective(params, images, texts):
        image, texts, _ = forward(clip)(params, images, texts)
        return sum(jnp.sum(jnp.sin(rows)) for rows in (image, *texts))

    return jax.grad(objective)


def counted(function, *arguments) -> int:
    """The FLOPs of all matrix products in a traced function, those in loops as often as they run."""

    def walk(jaxpr) -> int:
        total = 0
        for equation in jaxpr.eqns:
            if equation.primitive.name == "dot_general":
                (contracted, _), _ = equation.params["dimension_numbers"]
                k = 1
                for dimension in contracted:
                    k *= equation.invars[0].aval.shape[dimension]
                total += 2 * k * equation.outvars[0].aval.size
            if equation.primitive.name == "conv_general_dilated":
                features, *_ = equation.params["dimension_numbers"].rhs_spec
                kernel = equation.invars[1].aval
                total += 2 * kernel.size // kernel.shape[features] * equation.outvars[0].aval.size
            times = equation.params["length"] if equation.primitive.name == "scan" else 1
            for inner in jax.tree.leaves([*equation.params.values()], is_leaf=lambda value: hasattr(value, "eqns")):
                if hasattr(inner, "eqns"):
                    total += times * walk(inner)
        return total

    return walk(jax.make_jaxpr(function)(*arguments).jaxpr)


@pytest.mark.slow
@pytest.mark.parametrize(
    "clip",
    [model(), model_with_bert(), model_with_bert(pool="cls"), model_with_registers(), model_with_resnet()],
    ids=["clip", "bert", "cls", "registers", "resnet"],
)
def test_the_forward_pass_is_what_the_model_traces_to(clip):
    pair = flops.train_pair(clip, LENGTHS, batch_size=BATCH)
    assert BATCH * pair.forward.executed == counted(forward(clip), *inputs(clip))


@pytest.mark.slow
@pytest.mark.parametrize(
    "create",
    [
        model,
        pytest.param(model_with_bert, marks=pytest.mark.exhaustive),
        pytest.param(model_with_registers, marks=pytest.mark.exhaustive),
    ],
)
@pytest.mark.parametrize(
    "remat", ["none", "dense", "full", "names:qkv", "names:attention", "names:qkv,attention,mlp_hidden"]
)
def test_the_backward_pass_and_what_it_repeats_are_what_the_gradient_traces_to(create, remat):
    check_gradient(create(remat))


def test_dense_rematerialisation_of_the_kernel_of_whole_rows_repeats_the_product_behind_it():
    """Outside the kernel, as traced: the text tower's `out`, once more for each layer."""
    texts = jnp.zeros((BATCH, 77), jnp.int32)

    def outer_products(remat):
        text = {"width": 128, "heads": 2, "layers": 3, "remat": remat, "attention": "rows"}
        tower = zoo.create("tiny", text=text | {"vocab_size": 60, "end_token": 49}).text
        params = jax.eval_shape(tower.init, jax.random.key(0), texts)
        gradient = jax.grad(lambda params, texts: tower.apply(params, texts).sum())
        repeated = flops.recomputed(tower, flops.products(tower, 77))
        return counted(gradient, params, texts), flops.work(p for p in repeated if p.name == "out").executed

    (dense, out), (none, _) = outer_products("dense"), outer_products("none")
    assert dense - none == BATCH * out > 0


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["none", "dense", "full"])
def test_the_backward_pass_of_a_resnet_too(remat):
    check_gradient(model_with_resnet(remat))


def check_gradient(clip):
    pair = flops.train_pair(clip, LENGTHS, batch_size=BATCH)
    traced = counted(loss(clip), *inputs(clip))
    # The custom of 2 × forward counts a gradient of the pixels, which is not computed.
    patches = flops.products(clip.image, flops.tokens(clip.image))[0]
    assert patches.name in ("patch_embedding", "convolution")
    assert traced == BATCH * ((pair.forward + pair.backward + pair.remat).executed - patches.flops)


def test_kernels_under_adapters_have_no_gradient():
    adapt = adapt_rules.resolved(((".*", "lora", 1),))
    clip = zoo.create("tiny", image={"adapt": adapt["image"]}, text={"adapt": adapt["text"], "vocab_size": 60})
    frozen = re.compile(adapt_rules.frozen(("(image|text)/projection/.*",)))

    def objective(params, images, texts):
        def cut(path, leaf):
            return jax.lax.stop_gradient(leaf) if frozen.fullmatch(path_of(path)) else leaf

        image, texts, _ = forward(clip)(jax.tree.map_with_path(cut, params), images, texts)
        return sum(jnp.sum(jnp.sin(rows)) for rows in (image, *texts))

    pair = flops.train_pair(clip, LENGTHS, batch_size=BATCH)
    traced = counted(jax.grad(objective), *inputs(clip))
    without = (pair.forward + pair.backward + pair.remat).executed
    patches = flops.products(clip.image, flops.tokens(clip.image))[0].flops
    # LoRA of rank 1 of a tower 64 wide: 1 + 1 in place of 64 columns or rows, three times and not twice
    assert traced == pytest.approx(BATCH * (without - 2 * patches), rel=0.08)
    assert traced > BATCH * (without - 2 * patches)


def test_xla_counts_the_same_products():
    # A single layer, because XLA counts the body of a loop once.
    clip = model("none", layers=1)
    params, images, _ = inputs(clip)

    def objective(params, images):
        return jnp.sum(jnp.sin(clip.apply({"params": params}, images, method="encode_image")))

    forward = flops.products(clip.image, flops.tokens(clip.image))
    ours = BATCH * (3 * flops.work(forward).executed - forward[0].flops)
    xla = jax.jit(jax.grad(objective)).lower(params, images).compile().cost_analysis()["flops"]
    # XLA's number also holds elementwise arithmetic: norms, biases, activations, softmax.
    assert ours <= xla <= 1.05 * ours


@pytest.mark.parametrize("name", ["info_nce", "sigmoid"])
@pytest.mark.parametrize(("form", "chunk"), [("full", 0), ("gather", 0), ("gather", 2), ("ring", 0), ("ring", 2)])
def test_the_loss_multiplies_as_often_as_its_form_says(form, chunk, name):
    rows = jax.ShapeDtypeStruct((8, 40), jnp.float32)
    mesh = make_mesh(defaults().mesh, jax.devices()[:1])

    options = losses.LossOptions(form=form, chunk=chunk, name=name)

    def loss(image, long, short):
        texts = {"long": losses.Texts(long), "short": losses.Texts(short)}
        return losses.dual_loss(image, texts, 10.0, options, logit_bias=-10.0, mesh=mesh)[0]

    pair = flops.train_pair(model(), LENGTHS, batch_size=8, loss=name, form=form)
    # Beside these, "ring" has a few products of vectors.
    assert counted(jax.grad(loss, argnums=(0, 1, 2)), rows, rows, rows) == pytest.approx(8 * pair.loss, rel=0.01)
    assert pair.logits == 3 * 2 * 8 * 40 * len(LENGTHS)


def test_causal_attention_is_useful_below_the_diagonal():
    tower = model().text
    mask = sum(row + 1 for row in range(9))  # token i sees i + 1 tokens
    total = flops.work(flops.products(tower, 9))
    assert total.executed - total.useful == pytest.approx(total.attention * (1 - mask / 81))
    assert flops.work(flops.products(model().image, 17)).masked == 0
    assert flops.work(flops.products(model_with_bert().text, 9)).masked == 0  # padding is no triangle


@pytest.mark.parametrize("tower", [model().text, model_with_bert().text, model_with_bert(pool="cls").text])
def test_texts_of_any_lengths_cost_what_each_costs_alone(tower):
    lengths = (24, 9, 9, 1, 17)
    alone = sum((flops.work(flops.products(tower, length)) for length in lengths), flops.Work())
    together = flops.work_on(flops.Texts.of(lengths), flops.products(tower, 1))
    assert (together.dense, together.attention) == (alone.dense, alone.attention)
    assert together.masked == pytest.approx(alone.masked, rel=1e-12)


@pytest.mark.parametrize("tower", [model().image, model_with_registers().image, model().image.clone(pool="map")])
def test_images_of_any_shape_cost_what_each_costs_alone(tower):
    lengths = (17, 5, 5, 12)
    for chosen in (list, lambda products: flops.recomputed(tower, products)):
        alone = sum((flops.work(chosen(flops.products(tower, length))) for length in lengths), flops.Work())
        together = flops.work_on_images(tower, flops.Texts.of(lengths), chosen)
        assert (together.dense, together.attention) == (alone.dense, alone.attention)
    clip, squares = model(), flops.Texts.of([flops.tokens(model().image)])
    assert flops.train_pair(clip, LENGTHS, batch_size=4, images=squares) == flops.train_pair(
        clip, LENGTHS, batch_size=4
    )


@pytest.mark.parametrize("frozen", [(), ("image",), ("text",)])
@pytest.mark.parametrize("clip", [model(), model_with_bert()], ids=["clip", "bert"])
def test_a_step_of_mixed_lengths_is_the_sum_of_its_pairs(clip, frozen):
    pairs = [(24, 9), (11, 9), (20, 3), (1, 2)]
    settings = {"batch_size": BATCH, "microbatches": 2, "form": "ring", "frozen": frozen}
    each = [flops.train_pair(clip, lengths, **settings) for lengths in pairs]
    whole = flops.Texts.of([length for lengths in pairs for length in lengths])
    mean = flops.train_pair(clip, [whole * (1 / BATCH)], **settings)
    assert BATCH * mean.useful == pytest.approx(sum(pair.useful for pair in each), rel=1e-12)
    assert BATCH * mean.executed == pytest.approx(sum(pair.executed for pair in each), rel=1e-12)


@pytest.mark.parametrize("create", [model, model_with_bert, model_with_registers])
def test_packed_rows_are_what_the_model_traces_to(create):
    clip, rows, slots, texts = create(), 3, 24, 7
    ids = jax.ShapeDtypeStruct((rows, slots), jnp.int32)
    packed = Packed(ids, ids, ids, jax.ShapeDtypeStruct((1, texts, 2), jnp.int32))
    traced = counted(
        lambda params, packed: clip.apply({"params": params}, packed, method="encode_packed"), inputs(clip)[0], packed
    )
    computed = flops.Texts(count=texts, tokens=rows * slots, squares=rows * slots**2)
    assert flops.work_on(computed, flops.products(clip.text, 1)).executed == traced


@pytest.mark.parametrize(
    ("name", "images", "short", "dual"),
    [("vitb32", 8.8, 6.0, 105), ("vitb16", 35.1, 6.0, 184), ("vitl14", 162.0, 13.3, 659), ("vith14", 335, 47.1, 1613)],
)
def test_published_sizes(name, images, short, dual):
    # Forward GFLOPs of CLIP's models as open_clip's docs/model_profile.csv prints them (image 224, text 77).
    clip = zoo.create(name, image={"remat": "none"}, text={"context_length": 248, "remat": "none"})
    pair = flops.train_pair(clip, (248, 77), batch_size=1)
    assert pair.image.executed / 1e9 == pytest.approx(images, rel=0.01)
    assert pair.texts[1].executed / 1e9 == pytest.approx(short, rel=0.01)
    assert pair.executed / 1e9 == pytest.approx(dual, rel=0.01)


def test_what_a_step_repeats_and_what_it_leaves_out():
    clip = model()
    pair = flops.train_pair(clip, LENGTHS, batch_size=BATCH)
    assert pair.accumulation.executed == 0
    accumulated = flops.train_pair(clip, LENGTHS, batch_size=BATCH, microbatches=2)
    assert accumulated.executed - pair.executed == pair.forward.executed
    assert accumulated.useful == pair.useful
    frozen = flops.train_pair(clip, LENGTHS, batch_size=BATCH, frozen=("image",))
    assert frozen.forward == pair.forward
    assert frozen.backward.executed == 2 * sum(text.executed for text in pair.texts)
    one = flops.train_pair(clip, LENGTHS[:1], batch_size=2 * BATCH)
    assert one.logits == pair.logits  # twice the batch, half the texts


def test_a_crop_is_one_more_image_for_the_model_and_none_for_its_teacher():
    one, two = (
        flops.train_pair(model(), LENGTHS, batch_size=BATCH, microbatches=2, teacher=True, views=views)
        for views in (1, 2)
    )
    assert two.image == one.image * 2 and two.texts == one.texts and two.teacher == one.teacher
    assert two.backward.executed - one.backward.executed == 2 * one.image.executed
    assert two.accumulation.executed - one.accumulation.executed == one.image.executed
