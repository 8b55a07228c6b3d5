"""RSCLIP ViT-B/16 at 448 px with BERT-base, both pretrained, trained on pairs with one text each (arXiv 2409.07048).

    lrsclip train --config=rsclip --workdir=runs/rsclip \
        --config.model.image_init=MAE_WEIGHTS --config.model.text_init=BERT_WEIGHTS --config.data.sources=PREPARED

The learning rate follows the batch size where that is the recipe's argument, --config=rsclip:BATCH;
--config.batch_size changes the batch alone. --config.data.sampling=draw --config.loss.long_weight=0.5 trains it as
LRSCLIP is trained, with a long and a short text of each image at once.
"""

from lrsclip_jax.config import defaults
from lrsclip_jax.errors import InputError


def get_config(batch_size="1792"):
    if not batch_size.isdecimal() or int(batch_size) == 0:
        raise InputError("the argument is the batch size, such as 1792")
    config = defaults()
    config.model.name = "rsclip_vitb16_448_bert"

    # Stated in the paper: §II-B and §II-C.
    config.model.init = None  # image_init is a MAE pretrained on Million-AID, text_init BERT-base
    config.model.image.size = 448
    config.data.crop_scale = (0.8, 1.0)  # and no other augmentation
    config.batch_size = int(batch_size)  # 16 GPUs of 112
    config.epochs = 10.0
    config.loss.temperature = 0.07
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = config.batch_size * 5e-4 / 32768  # 2.734375e-5 at 1,792
    config.optimizer.weight_decay = 0.01
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_epochs = 1.0

    # Left open by the paper, and chosen here.
    config.data.sampling = "pairs"  # unstated; it counts pairs, two of an image, and names one InfoNCE of them
    config.loss.long_weight = 1.0  # what pairs need
    config.loss.learn_temperature = False  # "set to 0.07": whether it is learnt from there is unstated
    config.loss.max_scale = None  # unstated, if it were learnt
    config.loss.gradient = "full"  # unstated: whether the loss spans all GPUs, and what gathered features learn
    config.loss.same_text = "negative"  # unstated
    config.loss.label_smoothing = 0.0  # unstated
    config.model.text.context_length = 248  # unstated; BERT has 512 positions, the texts go beyond 100 words
    config.model.text.positions = "native"  # unstated: the first of BERT's rows, nothing stretched
    config.model.text.pool = "pooler"  # unstated: [CLS] itself ("cls") or through BERT's pooler
    config.model.image.pool = "cls"  # unstated
    config.model.image.embed_dim = 512  # unstated; CLIP's for towers of this size
    config.model.text.embed_dim = 512
    config.data.long_length = 248
    config.data.packed = True  # equal embeddings and gradients, without the padding
    config.data.decoder = "fast"  # unstated; PIL's pixels nearly, but for random crops, rounded to whole pixels
    config.optimizer.b1 = 0.9  # unstated, as are the next two; torch's defaults
    config.optimizer.b2 = 0.999
    config.optimizer.eps = 1e-8
    config.optimizer.decay_rules = ()  # unstated: what weight decay spares
    config.optimizer.lr_rules = ()  # unstated: whether new projections learn faster than pretrained towers
    config.optimizer.final_learning_rate = 0.0  # unstated: where the cosine ends
    config.optimizer.clip_norm = None  # unstated
    config.model.dtype = "auto"  # unstated
    config.seed = 0  # unstated
    return config
