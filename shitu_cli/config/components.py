"""The components that a config may name, with their arguments; a `!` marks what a component needs.

Kept as plain text so that validation does not load Paddle; a test compares it with the classes themselves.
"""

from __future__ import annotations


def _table(entries: dict[str, str]) -> dict[str, dict[str, bool]]:
    """{"A B": "x! y"} → {"A": {"x": True, "y": False}, "B": the same}."""
    return {
        name: {argument.rstrip("!"): argument.endswith("!") for argument in arguments.split()}
        for names, arguments in entries.items()
        for name in names.split()
    }


_PRETRAINED = "pretrained use_ssld"
_WARMUP = "warmup_epoch warmup_start_lr by_epoch"
_RESNETS = " ".join(f"ResNet{depth} ResNet{depth}_vd" for depth in (18, 34, 50, 101, 152))
_MOBILE = " ".join(
    f"MobileNetV3_{kind}_{scale}"
    for kind in ("large", "small")
    for scale in ["x0_35", "x0_5", "x0_75", "x1_0", "x1_25"]
)
_LCNET = " ".join(f"PPLCNet_{scale}" for scale in ["x0_25", "x0_35", "x0_5", "x0_75", "x1_0", "x1_5", "x2_0", "x2_5"])
_LITE = " ".join(f"tf_efficientnet_lite{number}" for number in range(5))
_VIT = (
    "vit_tiny_patch16_224 vit_small_patch16_224 vit_small_patch32_224 vit_base_patch32_clip_224 "
    "vit_base_patch16_clip_224 vit_small_patch14_dinov2 vit_base_patch14_dinov2 vit_small_patch14_reg4_dinov2 "
    "vit_base_patch14_reg4_dinov2 vit_base_patch16_siglip_224"
)
_ANGULAR = "margin normalize_feature reduction add_absolute absolute_loss_weight ap_value an_value feature_from"

# kind → name → argument → whether it is needed
SPECS: dict[str, dict[str, dict[str, bool]]] = {
    "backbone": _table(
        {
            _LCNET: f"class_num dropout_prob class_expand lr_mult_list stride_list use_last_conv {_PRETRAINED}",
            "PPLCNetV2_small PPLCNetV2_base PPLCNetV2_large PPLCNetV2_base_ShiTu": "scale class_num dropout_prob "
            f"class_expand depths {_PRETRAINED}",
            f"{_RESNETS} ResNet50_last_stage_stride1": f"class_num lr_mult_list stem_act {_PRETRAINED}",
            _MOBILE: f"class_num class_expand dropout_prob {_PRETRAINED}",
            "resnet18 resnet34 resnet50": f"class_num lr_mult_list stem_act {_PRETRAINED}",
            f"{_LITE} mobilenetv4_conv_small mobilenetv4_conv_medium": f"class_num {_PRETRAINED}",
            _VIT: f"img_size class_num {_PRETRAINED}",
        }
    ),
    "neck": _table(
        {
            "FC": "embedding_size! class_num! weight_attr bias_attr",
            "BNNeck": "num_features! weight_attr bias_attr",
            "VehicleNeck": "in_channels! out_channels!",
            "FPN": "embedding_size! class_num! levels channels",
            "FCBN": "embedding_size! class_num!",
            "Identity": "",
        }
    ),
    "head": _table(
        {
            "FC": "embedding_size! class_num! weight_attr bias_attr",
            "ArcMargin": "embedding_size! class_num! margin scale easy_margin sample_ratio margin_warmup shard",
            "CosMargin": "embedding_size! class_num! margin scale sample_ratio margin_warmup shard",
            "CircleMargin": "embedding_size! class_num! margin! scale! sample_ratio",
            "SubCenterArcMargin": "embedding_size! class_num! sub_centers margin scale easy_margin",
            "AdaMargin": "embedding_size class_num m h s t_alpha",
        }
    ),
    "loss": _table(
        {
            "CELoss": "weight epsilon",
            "TripletLoss": "weight margin feature_from",
            "TripletLossV2": "weight margin normalize_feature feature_from",
            "TriHardLoss MSMLoss": "weight batch_size samples_each_class margin feature_from",
            "TripletAngularMarginLoss": f"weight {_ANGULAR}",
            "TripletAngularMarginLoss_XBM": f"weight start_iter! xbm_size! xbm_weight! feat_dim! {_ANGULAR}",
            "ContrastiveLoss": "weight margin embedding_size normalize_feature epsilon feature_from",
            "ContrastiveLoss_XBM": "weight start_iter! xbm_size! xbm_weight! embedding_size! margin "
            "normalize_feature epsilon feature_from",
            "SupConLoss": "weight views temperature contrast_mode base_temperature normalize_feature feature_from",
            "PairwiseCosface": "weight margin! gamma! feature_from",
            "MultiSimilarity": "weight alpha beta base epsilon feature_from",
            "EmlLoss": "weight batch_size samples_each_class feature_from",
            "NpairsLoss": "weight reg_lambda feature_from",
            "CenterLoss": "weight num_classes! feat_dim! feature_from",
            "ProxyAnchor": "weight num_classes! feat_dim! margin alpha feature_from",
        }
    ),
    "optimizer": _table(
        {
            "Momentum": "momentum use_nesterov weight_decay",
            "SGD": "weight_decay",
            "Adam": "beta1 beta2 epsilon weight_decay lazy_mode",
            "AdamW": "beta1 beta2 epsilon weight_decay",
            "RMSProp": "rho momentum epsilon centered weight_decay",
        }
    ),
    "schedule": _table(
        {
            "Constant ConstLR": f"learning_rate! {_WARMUP}",
            "Cosine": f"learning_rate! eta_min {_WARMUP}",
            "Linear": f"learning_rate! end_lr power cycle {_WARMUP}",
            "Step": f"learning_rate! step_size! gamma {_WARMUP}",
            "MultiStepDecay": f"learning_rate! milestones! gamma {_WARMUP}",
            "Piecewise": f"decay_epochs! values! learning_rate {_WARMUP}",
            "ReduceOnPlateau": "learning_rate! mode factor patience threshold threshold_mode cooldown min_lr epsilon "
            f"{_WARMUP}",
        }
    ),
    "sampler": _table(
        {
            "DistributedBatchSampler BatchSampler": "",
            "PKSampler DistributedRandomIdentitySampler": "sample_per_id! sample_method id_list ratio by_id",
            "ClassBalancedSampler": "power",
        }
    ),
    "transform": _table(
        {
            "DecodeImage": "to_rgb to_np channel_first backend reduced",
            "ResizeImage": "size resize_short interpolation backend return_numpy",
            "CropImage": "size",
            "RandCropImage": "size! scale ratio interpolation backend",
            "RandCropImageV2": "size!",
            "RandFlipImage": "flip_code",
            "Pad": "padding! padding_mode fill backend",
            "RandomRotation": "prob degrees interpolation padding_mode",
            "RandomErasing": "EPSILON sl sh r1 attempt use_log_aspect mode mean",
            "ColorJitter": "prob brightness contrast saturation hue",
            "RandAugment": "num_layers magnitude fillcolor",
            "AugMix": "prob aug_prob_coeff mixture_width mixture_depth aug_severity",
            "NormalizeImage": "scale mean std order output_fp16 channel_num",
            "ToTensor": "",
            "Normalize": "mean std data_format to_rgb",
            "ToCHWImage": "",
        }
    ),
    "metric": _table({"Recallk Precisionk": "topk descending", "mAP mINP": "descending", "TopkAcc": "topk"}),
}

# What PaddleClas's recognition configs also know; naming one says so instead of guessing at a typing error.
NOT_SUPPORTED: dict[str, tuple[str, ...]] = {
    "backbone": ("SwinTransformer_tiny_patch4_window7_224", "HRNet_W18_C", "PPHGNetV2_B4", "GoogLeNet"),
    "neck": ("FRFNNeck",),
    "head": ("CosFace",),
    "loss": ("DMLLoss", "DistillationDMLLoss", "DSHSDLoss", "LCDSHLoss", "DeepHashLoss", "MultiLabelLoss"),
    "transform": ("TimmAutoAugment", "AutoAugment", "RandAugmentV2", "RandAugmentV3", "Cutout", "HideAndSeek"),
    "schedule": ("Cyclic", "CosineFixmatch", "OneCycleLR"),
    "optimizer": ("AdamWDL",),
    "sampler": ("MultiTrialSampler", "PreserveQuerySampler"),
    "metric": ("ATTRMetric", "HashMAP", "MultiLabelMAP"),
}

# Lists of path, label and maybe camera, and what data/reader_classes.py makes such lists of.
DATASETS = (
    *("ImageNetDataset", "VeriWild", "ICartoonDataset", "AliProductDataset"),
    *("LogoDataset", "Market1501", "MSMT17", "DukeMTMC"),
)
BLOCKS_NOT_SUPPORTED = ("Slim", "DistillationModel")
BLOCKS_IGNORED = ("Infer", "PostProcess", "profiler_options")
# Harmless keys that say how PaddleClas itself runs.
GLOBAL_IGNORED = ("to_static", "class_num", "vdl_dir", "infer_imgs", "save_dir", "rank", "log_ranks", "eval_batch_size")
GLOBAL_NOT_SUPPORTED = ("use_dali", "export_for_fd", "d2s_train_image_shape", "max_num_latest_checkpoint")
ARCH_NOT_SUPPORTED = ("models", "freeze_params_list", "pretrained_list", "infer_model_name")
DATASET_IGNORED = ("batch_transform_ops_none", "backend")
DATASET_NOT_SUPPORTED = ("batch_transform_ops", "sample_ratio")
LOADER_IGNORED = ("use_shared_memory",)
