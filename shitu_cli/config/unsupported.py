"""Keys, classes and values of PaddleClas that this program does not have, and what to do without them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from shitu_cli.config.parts import KINDS

_OUT = "leave it out"
_MULTI = "it is for images with several labels, which recognition does not have: choose one of the losses here"
_SLIM = (
    "training for quantisation (pact) and pruning are not done here; without it the same network trains in full, and "
    "`shitu export` makes the small files"
)
_METABIN = (
    "MetaBIN trains in two phases over camera domains, which is not done here; `shitu templates person_reid` shows a "
    "recipe that is"
)

# Keys by their dotted names, of which a pattern must match the end.
_KEYS: tuple[tuple[str, str], ...] = (
    (r"Slim", _SLIM),
    (r"DistillationModel", "give it as the value of Arch.name"),
    (r"Global\.use_dali", f"images are decoded by this program's own threads: {_OUT}"),
    (r"Global\.export_for_fd", f"the exported files are those that FastDeploy reads anyway: {_OUT}"),
    (r"Global\.d2s_train_image_shape", f"training does not trace the network: {_OUT}"),
    (r"Global\.max_num_latest_checkpoint", "an option says how many saves to keep: shitu train --keep 5"),
    (r"Global\.(train_mode|warmup_iter)", f"there is one way to train here ({_METABIN}): {_OUT}"),
    (r"Global\.(iters|start_eval_iter)", "training is counted in epochs: set Global.epochs and iter_per_epoch"),
    (r"Global\.use_multilabel", _MULTI),
    (r"Optimizer_metric", "to give a loss its own optimiser, add an entry to Optimizer with that loss as its scope"),
    (r"Global\.(warmup_epoch_idml|find_unused_parameters|use_fused_attn|use_fused_linear)", _OUT),
    (r"Backbone\.(return_patterns|return_stages|stop_after)", "set Arch.BackboneStopLayer.name to its last layer"),
    (r"Backbone\.freeze_befor", "Arch.Backbone.freeze_at fixes the first layers"),
    (r"Backbone\.(input_image_channel|in_channels)", f"images have three channels here: {_OUT}"),
    (r"Backbone\.(data_format|use_fused_\w+|max_pool)", f"the layout and the kernels are chosen here: {_OUT}"),
    (r"Arch\.(pretrained|use_ssld)", "set it for the backbone: Arch.Backbone.pretrained"),
    (r"Global\.use_(gpu|xpu|npu|mlu)", "set Global.device instead: cpu or gpu"),
    (r"PPLCNetV2\.use_last_conv", "the last convolution is always there; class_expand is the size of its output"),
    (r"VehicleNeck\.weight_attr", "its weights always start as Paddle's convolutions do; use the neck FC to choose"),
    (r"VehicleNeck\.\w+", "it is a 1x1 convolution on the pooled map, which has one pixel"),
    (r"DistillationDistanceLoss\.reduction", "the difference is the mean over all values"),
    (r"Cyclic\.scale_fn", "a config cannot hold a function: mode chooses one of three"),
    (r"Arch\.(fix_bn)", "-o Arch.Backbone.freeze_norm=true fixes the statistics of batch norm"),
    (r"DataLoader\.Metalearning", _METABIN),
    (r"DataLoader\.UnLabelTrain", "images without labels cannot be used in training here: leave them out"),
    (r"Loss\.(Basic|MetaTrain|MetaTest)", _METABIN),
    (r"dataset\.batch_transform_ops", f"mixing the images and labels of a batch is not for recognition: {_OUT}"),
    (r"dataset\.sample_ratio", "to train on a part of the images, shorten the list"),
    (r"dataset\.(root_dir|label_path|transform|val_data_path|concat_mem_file_name)", "AdaFace's packed face data are "
     "not read; write lists of path and label, with image_root, cls_label_path and transform_ops"),
    (r"sampler\.(camera_to_domain)", _METABIN),
    (r"Optimizer(\.\w+)*\.(clip_value)", "Optimizer.clip_norm limits the length of each gradient"),
    (r"Optimizer(\.\w+)*\.(layerwise_decay|filter_bias_and_bn)", "Arch.Backbone.layer_decay lowers the rate per layer"),
)  # fmt: skip

# Values by their dotted keys, of which a pattern must match the end; the value must match as a whole.
_VALUES: tuple[tuple[str, str, str], ...] = (
    (
        r"Global\.eval_mode",
        r"adaface|face_recognition",
        "pairs of faces are not compared; name lists with DataLoader.Eval.Query and .Gallery, and set it to retrieval",
    ),
    (r"Global\.eval_mode", r"idml|classification_vl|\w*multimodal", "set it to retrieval"),
    (r"(ResizeImage|RandCropImage)\.interpolation", r"random", "choose bilinear or bicubic"),
    (r"SupConLoss\.contrast_mode", "one", "all images are anchors: set it to all"),
    (
        r"Arch\.name",
        r"AttentionModel",
        "for networks that learn from each other, use DistillationModel",
    ),
)
_ALONE = (
    "a network alone classifies, as in PaddleClas's configs for ImageNet; recognition takes it as the backbone: "
    "name: RecModel, Backbone: {name: …}, Head: {name: FC, embedding_size: …, class_num: …}"
)

# Classes by kind: patterns of whole names.
_CLASSES: dict[str, tuple[tuple[str, str], ...]] = {
    "backbone": (
        (r"ResNet50_metabin", _METABIN),
        (r"(EVA|MAE|MOCOV3|BEiTv2|CAE|CoCa|React|LaCLIP|Unicom|DINO\w*)_vit_\w+|CLIP_large_patch14_224_aesthetic|ViT_\w+|"
         r"DeiT_\w+", "use another transformer: CLIP_vit_… or timm's vit_…"),
        (r"AdaFace_IR_(152|200|SE_(50|101|152|200))", "use one of AdaFace_IR_18 to AdaFace_IR_101"),
        (r"(SwinTransformer|SwinTransformerV2|CSWinTransformer|TwinsSVT|alt_gvt|pcpvt|PVT_V2|LeViT|TNT|MobileViT|NextViT|"
         r"ConvNeXt|HRNet|Fix_ResNeXt|PPLCNetV3|SE_HRNet|PPHGNet|PPHGNetV2|GoogLeNet|InceptionV\d|Inception|Xception|DenseNet|DLA|DPN|DarkNet|"
         r"CSPDarkNet|CSPNet|EfficientNet|EfficientNetV2|EfficientNetB\d|ESNet|GhostNet|GvT|HarDNet|MicroNet|MixNet|"
         r"MobileNetV2|MobileNeXt|MobileNetV4|MobileOne|PeleeNet|RedNet|RegNet|RepVGG|Res2Net|ResNeSt|ResNeXt|ReXNet|"
         r"SE_ResNet|SENet|ShuffleNetV2|SqueezeNet|StarNet|TinyNet|UniFormer|VAN|WideResNet|cae|ibot|IBOT|StrongBaseline|"
         r"FasterNet|VIP|CvT|LeNet|CaiT|DSNet|EdgeNeXt|MambaVision|ResNet50_vc|"
         r"ResNet200_vd|SE_ResNeXt|ResNet50_stage4)(_\w+|\d\w*|X\w*)?", "`shitu models` lists the networks that do"),
    ),
    "neck": (
        (r"FRFNNeck", "use FC with the same sizes"),
        (r"MetaBNNeck", _METABIN),
        (r"IDMLNeck", "use FC"),
    ),
    "head": ((r"CosFace", "use CosMargin, which is the same"), (r"CircleLoss", "use CircleMargin, which is the same")),
    "loss": (
        (r"CELossForMetaBIN|TripletLossForMetaBIN|IntraDomainScatterLoss|InterDomainShuffleLoss", _METABIN),
        (r"MultiLabel\w*Loss|ASLLoss|RAMLoss\w*", _MULTI),
        (r"CLIPLoss|DINOLoss|IBOTLoss|VLTLoss", "it is for images with texts or without labels: use CELoss"),
        (r"MixCELoss|CEwithOneHotLoss|SoftTargetCrossEntropy|SoftSuppressionLoss|CCSSL\w*|SoftSupConLoss|GoogLeNetLoss|"
         r"BCELoss|CELossForUnlabel\w*",
         "it is for mixed or missing labels: use CELoss"),
        (r"(IDML|Softmax)?ProxyAnchorLoss|IDMLProxyAnchorLoss", "use ProxyAnchor, which is the same loss"),
        (r"Distillation(RKD|WSL|SKD|MultiLabel|DIST|Pair)Loss|(KLDiv|RKD|DKD|DIST|MGD|WSL|SKD|AFD|PEFD|DML|Distance)Loss",
         "use one of Distillation{GTCE,DML,CE,Distance,KLDiv,DKD}Loss"),
    ),
    "metric": (
        (r"ATTRMetric|HammingDistance|MultiLabelMAP|AccuracyScore|MultilabelMeanAccuracy", _MULTI),
        (r"TprAtFpr", "`shitu evaluate --far` measures the threshold that keeps unknown things out"),
        (r"HashMAP", "use mAP with Global.feature_binarize: sign, which is the same"),
        (r"GoogLeNetTopkAcc|DistillationTopkAcc", "use TopkAcc"),
    ),
    "optimizer": ((r"AdamWDL|Lamb|Lars", "use AdamW"),),
    "schedule": (
        (r"CosineFixmatch|OneCycleLR|ViTLRScheduler|CosineWarmup|ExponentialWarmup", "use Cosine with warmup_epoch"),
    ),
    "sampler": (
        (r"NaiveIdentityBatchSampler|DomainShuffleBatchSampler", _METABIN),
        (r"MultiScaleSampler|MultiScaleSamplerV2|RASampler|MixSampler|ClassAwareSampler|MultiTrialSampler|PreserveQuerySampler|"
         r"WriterHardSampler", "use DistributedBatchSampler or PKSampler"),
    ),
    "transform": (
        (r"AutoAugment|RandAugmentV[234]|Cutout|HideAndSeek|RandomGridErasing|RandomGrayscale|GridMask|RandomAffine|"
         r"RandomApply|BlurImageOp|RandomErasingV2", "TimmAutoAugment, RandAugment and RandomErasing exist here"),
        (r"RandAugmentMC|DataAugmentation\w+|RandomRot90|PCALighting|\w*GaussianBlur|RandomSolarization|BlurImage",
         "RandAugment, RandomRotation and ColorJitter exist here"),
        (r"CropWithPadding|RandomInterpolationAugment|RandomCropImage", "RandCropImage and ResizeImage exist here"),
        (r"MixupOperator|CutmixOperator|FmixOperator|OpSampler|MixupCutmixHybrid",
         "mixing images is not for recognition"),
        (r"BlurDetection|Pad[vV]2|DecodeImageV2|CropImageAtRatio", "DecodeImage, Pad and CropImage exist here"),
    ),
    "initializer": ((r"Assign|Bilinear|Dirac|Orthogonal", "Normal, Uniform, Kaiming… and Xavier… exist here"),),
}  # fmt: skip

# Classes that read a data set in a form of its own.
READERS_ELSEWHERE = {
    **dict.fromkeys(
        ("CIFAR10", "Cifar10", "Cifar100", "MNIST", "FashionMNIST"),
        "write its images to files, with a list of path and label",
    ),
    **dict.fromkeys(("AttrDataset", "MultiLabelDataset"), "recognition has one label per image"),
    **dict.fromkeys(
        ("RAMPretrainDataset", "RAMTestDataset", "CLIPDataset", "MoCoImageNetDataset", "BEiTDataset", "IBOTDataset"),
        "images without labels or with texts are not trained on: give a list of path and label",
    ),
    **dict.fromkeys(
        ("ImageNetLTDataset", "MultiScaleDataset", "CustomLabelDataset", "WriterHardDataset", "PersonDataset"),
        "ImageNetDataset reads a list of path and label",
    ),
    "AdaFaceDataset": "its packed faces are not read: write the images to files, with a list of path and label, and "
    "give name: ImageNetDataset, image_root, cls_label_path and transform_ops",
    "FiveValidationDataset": "its five packed sets of face pairs are not read: give Query and Gallery lists instead, "
    "or train without evaluation: -o DataLoader.Eval=null",
    "CustomizedCifar10": "it downloads CIFAR-10; write the images to files, with a list of path and label",
    "MixDataset": "join the lists into one: shitu prepare A B --merge",
}


def unsupported_key(key: str) -> str | None:
    """Return what to do about a dotted key that PaddleClas has and this program has not; None for any other."""
    return next((advice for pattern, advice in _KEYS if re.fullmatch(rf"(.*\.)?{pattern}", key)), None)


def unsupported_value(key: str, value: str) -> str | None:
    """Return what to do about a value that a dotted key has in PaddleClas, but not here; None for any other."""
    if re.fullmatch(r"Arch(\.models\.\w+)?\.name", key) and _is_network(value):
        return _ALONE
    return next(
        (
            advice
            for pattern, values, advice in _VALUES
            if re.fullmatch(rf"(.*\.)?{pattern}", key) and re.fullmatch(values, value)
        ),
        None,
    )


def _is_network(name: str) -> bool:
    """Return whether there is a network of this name, here or in PaddleClas."""
    return name in KINDS["backbone"].names() or unsupported_class("backbone", name) is not None


def unsupported_class(kind: str, name: str) -> str | None:
    """Return what to do about a class of PaddleClas (`kind`: loss, backbone, …) that does not exist here, or None."""
    return next((advice for pattern, advice in _CLASSES.get(kind, ()) if re.fullmatch(pattern, name)), None)


def left_out(keys: Sequence[str]) -> list[str]:
    """Return the options that leave keys out: `-o`, `Slim=null`, …"""
    return [word for key in keys for word in ("-o", f"{key}=null")]
