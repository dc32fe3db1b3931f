"""Names that PaddleClas has: each exists here, or is refused as its own, with what to do instead."""

from __future__ import annotations

import re

import pytest

from shitu_cli.config.kinds import fields_of
from shitu_cli.config.parts import KINDS
from shitu_cli.config.reader import Reader
from shitu_cli.config.schema import DatasetConfig, GlobalConfig
from shitu_cli.config.unsupported import READERS_ELSEWHERE, unsupported_class, unsupported_key, unsupported_value

# One of each family of networks, and every other class, of ppcls (release 2.6 and develop).
NAMES = {
    "backbone": """
    MobileNetV1_x0_25 MobileNetV2_x0_25 MobileNetV3_large_x1_0 MobileNetV4_conv_small MobileNeXt_x1_0 MobileOne_S0
    MobileViT_XXS ResNet18 ResNet50_vd ResNet200_vd ResNet50_vc ResNeXt50_32x4d ResNeXt101_vd_64x4d
    ResNeXt101_32x8d_wsl Fix_ResNeXt101_32x48d_wsl Res2Net50_26w_4s Res2Net101_vd_26w_4s SE_ResNet18_vd
    SE_ResNeXt50_vd_32x4d SENet154_vd VGG11 InceptionV3 InceptionV4 Xception41 Xception65_deeplab HRNet_W18_C
    SE_HRNet_W64_C PPLCNet_x0_25 PPLCNetV2_base PPLCNetV3_x1_0 ESNet_x0_25 PPHGNet_tiny PPHGNetV2_B0
    SwinTransformer_tiny_patch4_window7_224 SwinTransformerV2_tiny_patch4_window8_256 FasterNet_T0 StarNet_S1
    DenseNet121 ShuffleNetV2_x0_25 ShuffleNetV2_swish MixNet_S ReXNet_1_0 RedNet50 TNT_small SqueezeNet1_0
    EfficientNetB0 EfficientNetB0_small EfficientNetV2_S EfficientNetB3_watermark GhostNet_x0_5 AlexNet DarkNet53
    CSPDarkNet53 RegNetX_4GF ViT_base_patch16_224 DeiT_tiny_patch16_224 pcpvt_small alt_gvt_small LeViT_128S DLA34
    DLA46x_c HarDNet39_ds CSWinTransformer_tiny_224 PVT_V2_B2_Linear RepVGG_B1g2 PeleeNet ConvNeXt_base_224 CvT_13_224
    MicroNet_M0 DSNet_tiny TinyNet_A NextViT_small_224 VAN_B0 UniFormer_small WideResNet cae_base_patch16_224
    IBOT_ViT_small_patch16_224 GoogLeNet DPN68 LeNet CLIP_vit_base_patch16_224 CLIP_vit_large_patch14_336
    BEiTv2_vit_base_patch16_224 EVA_vit_huge_patch14 MAE_vit_base_patch16 MOCOV3_vit_small CAE_vit_base_patch16_224
    CLIP_large_patch14_224_aesthetic AdaFace_IR_18 AdaFace_IR_50 AdaFace_IR_152 AdaFace_IR_SE_50
    ResNet50_last_stage_stride1 ResNet50_adaptive_max_pool2d ResNet50_metabin ResNet50_stage4 VGG19Sigmoid
    PPLCNet_x2_5_Tanh PPLCNetV2_base_ShiTu""",
    "neck": "FC BNNeck VehicleNeck Tanh FRFNNeck MetaBNNeck IDMLNeck Identity",
    "head": "FC ArcMargin CosMargin CircleMargin AdaMargin",
    "loss": """
    CELoss MixCELoss GoogLeNetLoss CenterLoss ContrastiveLoss ContrastiveLoss_XBM EmlLoss MSMLoss NpairsLoss
    TriHardLoss TripletLoss TripletLossV2 TripletAngularMarginLoss TripletAngularMarginLoss_XBM SupConLoss
    SoftSupConLoss CCSSLCELoss PairwiseCosface DMLLoss DistanceLoss SoftTargetCrossEntropy DistillationCELoss
    DistillationGTCELoss DistillationDMLLoss DistillationDistanceLoss DistillationRKDLoss DistillationKLDivLoss
    DistillationDKDLoss DistillationWSLLoss DistillationSKDLoss DistillationMultiLabelLoss DistillationDISTLoss
    DistillationPairLoss MultiLabelLoss MultiLabelAsymmetricLoss AFDLoss DSHSDLoss LCDSHLoss DCHLoss
    CELossForMetaBIN TripletLossForMetaBIN InterDomainShuffleLoss IntraDomainScatterLoss RAMLoss CLIPLoss KLDivLoss
    IDMLProxyAnchorLoss PEFDLoss RKDLoss""",
    "metric": """
    TopkAcc mAP mINP Recallk Precisionk DistillationTopkAcc GoogLeNetTopkAcc HammingDistance AccuracyScore ATTRMetric
    TprAtFpr MultilabelMeanAccuracy MultiLabelMAP""",
    "optimizer": "SGD Momentum Adam AdamW AdamWDL RMSProp Lamb",
    "schedule": """
    Constant ConstLR Linear Cosine Step Piecewise MultiStepDecay ReduceOnPlateau Cyclic CosineFixmatch OneCycleLR
    ViTLRScheduler""",
    "sampler": """
    DistributedBatchSampler BatchSampler DistributedRandomIdentitySampler PKSampler MixSampler MultiScaleSampler
    RASampler WriterHardSampler NaiveIdentityBatchSampler DomainShuffleBatchSampler ClassAwareSampler""",
    "transform": """
    AutoAugment RandAugment RandAugmentV2 RandAugmentV3 RandAugmentV4 RandAugmentMC TimmAutoAugment Cutout
    HideAndSeek RandomErasing GridMask DecodeImage ResizeImage CropImage CropImageAtRatio CenterCrop Resize
    RandCropImage RandCropImageV2 RandFlipImage RandomHorizontalFlip RandomResizedCrop NormalizeImage ToCHWImage
    AugMix Pad Padv2 ToTensor Normalize RandomRotation RandomRot90 CropWithPadding
    RandomInterpolationAugment RandomCropImage ColorJitter RandomGrayscale PCALighting GaussianBlur
    RandomApply MixupOperator CutmixOperator FmixOperator OpSampler MixupCutmixHybrid""",
}
READERS = """
    ImageNetDataset ImageNetLTDataset MultiLabelDataset CompCars VeriWild LogoDataset ICartoonDataset MixDataset
    MultiScaleDataset Market1501 MSMT17 DukeMTMC AdaFaceDataset FiveValidationDataset GoodsDataset CustomLabelDataset
    CIFAR10 CustomizedCifar10 AttrDataset RAMPretrainDataset"""
GLOBAL = """
    checkpoints pretrained_model output_dir device save_interval eval_during_train eval_interval start_eval_epoch epochs
    print_batch_step use_visualdl vdl_dir image_shape save_inference_dir use_dali to_static update_freq iter_per_epoch
    eval_mode retrieval_feature_from re_ranking feature_normalize feature_binarize seed class_num infer_imgs train_mode
    use_multilabel export_for_fd d2s_train_image_shape max_num_latest_checkpoint warmup_epoch_idml
    find_unused_parameters use_fused_attn use_fused_linear warmup_iter uniform_output_enabled pdx_model_name"""


@pytest.mark.parametrize("kind", NAMES)
def test_a_class_of_theirs_exists_or_is_refused_as_theirs(kind: str) -> None:
    unknown = [
        name for name in NAMES[kind].split() if KINDS[kind].find(name) is None and unsupported_class(kind, name) is None
    ]
    assert unknown == []


def test_their_readers_and_keys_too() -> None:
    ours = re.findall(r"'(\w+)'", str(DatasetConfig.__annotations__["name"])) or fields_of(DatasetConfig)["name"].kinds
    assert "Market1501" in ours
    assert [name for name in READERS.split() if name not in ours and name not in READERS_ELSEWHERE] == []
    own = {*fields_of(GlobalConfig), *GlobalConfig.ignored}
    assert [key for key in GLOBAL.split() if key not in own and unsupported_key(f"Global.{key}") is None] == []


@pytest.mark.parametrize(
    "key",
    [
        "Arch.Backbone.return_patterns",
        "Arch.models.0.Student.Backbone.freeze_befor",
        "Arch.Backbone.input_image_channel",
        "Arch.Backbone.data_format",
        "Slim",
        "DataLoader.Train.dataset.batch_transform_ops",
        "Optimizer.clip_value",
        "Loss.MetaTrain",
    ],
)
def test_keys_of_their_blocks_are_explained(key: str) -> None:
    assert unsupported_key(key)


def test_what_only_their_machinery_reads_has_no_effect() -> None:
    from shitu_cli.config.reader import make_part
    from shitu_cli.config.schema import LoaderConfig

    rate = {"name": "Constant", "learning_rate": 0.1}
    assert make_part("optimizer", "Momentum", lr=rate, multi_precision=True).momentum == 0.9
    reader = Reader({}, "theirs.yaml")
    assert reader.block("loader", {"num_workers": 2, "prefetch_factor": 4}, LoaderConfig) == LoaderConfig(2)
    assert reader.ignored == ["loader.prefetch_factor"]


def test_what_is_nobodys_is_a_misspelling() -> None:
    for kind, name in (("loss", "CELos"), ("backbone", "PPLCNet_x3_0"), ("transform", "ResizeImages"), ("head", "Arc")):
        assert unsupported_class(kind, name) is None
    for name in ("RecModle", "Recmodel", "DistilationModel"):
        assert unsupported_value("Arch.name", name) is None
    assert unsupported_key("Global.epoch") is None and unsupported_value("Global.eval_mode", "retrival") is None


@pytest.mark.parametrize("kind", KINDS)
def test_no_misspelling_of_ours_is_taken_for_one_of_theirs(kind: str) -> None:
    theirs = set(NAMES.get(kind, "").split())
    for name in KINDS[kind].parts:
        for n in range(len(name)):
            start, letter, end = name[:n], name[n], name[n + 1 :]
            wrongs = {start + wrong + end for wrong in ("", letter.swapcase(), 2 * letter)}
            wrongs -= {*theirs, *KINDS[kind].parts}
            assert [wrong for wrong in wrongs if unsupported_class(kind, wrong) is not None] == []


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("Global.eval_mode", "adaface", "pairs of faces are not compared"),
        ("Global.eval_mode", "idml", "set it to retrieval"),
        ("Loss.Train.1.SupConLoss.contrast_mode", "one", "set it to all"),
        ("DataLoader.Train.dataset.transform_ops.0.ResizeImage.interpolation", "random", "choose bilinear or bicubic"),
        ("Arch.name", "ResNet50", "recognition takes it as the backbone"),
        ("Arch.models.Student.name", "MobileNetV3_large_x1_0", "recognition takes it as the backbone"),
    ],
)
def test_a_value_of_theirs_is_refused_as_theirs(key: str, value: str, says: str) -> None:
    reader = Reader({}, "theirs.yaml")
    assert reader.explained(key, value)
    assert f"{value} exists in PaddleClas, but not here: " in reader.problems[0] and says in reader.problems[0]
