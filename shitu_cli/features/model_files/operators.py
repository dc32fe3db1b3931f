"""The operators that networks for features and for detection are made of, under each format's names.

None of them reads or writes files, runs other code, draws random numbers, or contains a program (as loops and
conditions do). Adding one: it must do none of that either.
"""

from __future__ import annotations

from typing import NamedTuple

# Names that Paddle's old and new programs have in common.
_PADDLE = """
    abs assign bilinear_interp bmm cast clip concat conv2d conv2d_transpose cos cumsum depthwise_conv2d
    depthwise_conv2d_transpose dropout elu equal erf exp fetch flatten flip floor gather gather_nd gelu group_norm
    greater_equal greater_than hardswish index_select instance_norm layer_norm leaky_relu less_equal less_than log
    logical_and logical_not logical_or matmul mean meshgrid mish multiply nearest_interp norm not_equal one_hot p_norm
    pad pad3d pixel_shuffle pool2d pow prelu relu relu6 roll rsqrt scale shape sigmoid sign silu sin slice softmax
    softplus split sqrt square squeeze stack strided_slice sum swish tanh tile transpose tril_triu unfold unsqueeze
    unstack where
"""
_OLD = """
    arg_max assign_value batch_norm bicubic_interp_v2 bilinear_interp_v2 elementwise_add elementwise_div
    elementwise_floordiv elementwise_max elementwise_min elementwise_mul elementwise_pow elementwise_sub expand_as_v2
    expand_v2 fc feed fill_any_like fill_constant fill_constant_batch_size_like flatten2 flatten_contiguous_range
    hard_sigmoid hard_swish layer_norm lookup_table_v2 matmul_v2 mul nearest_interp_v2 one_hot_v2 range reduce_max
    reduce_mean reduce_min reduce_prod reduce_sum reshape2 squeeze2 stack sync_batch_norm tanh top_k_v2 transpose2
    unsqueeze2
"""
_NEW = """
    add add_ add_n arange argmax assign_ assign_out_ assign_value_ batch_norm_ bicubic_interp builtin_split clip_ data
    divide embedding expand expand_as feed floor_divide full full_int_array full_like full_with_tensor hardsigmoid
    hardtanh linear max maximum min minimum multiply_ prod relu_ reshape reshape_ scale_ shape64 sigmoid_ softmax_
    split_with_num squeeze_ subtract subtract_ topk transpose_ unsqueeze_
"""
_ONNX = """
    Abs Add And ArgMax AveragePool BatchNormalization Cast Ceil Clip Concat Constant ConstantOfShape Conv
    ConvTranspose Cos CumSum DepthToSpace Div Dropout Einsum Elu Equal Erf Exp Expand Flatten Floor Gather
    GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GroupNormalization
    HardSigmoid HardSwish Identity InstanceNormalization LayerNormalization LeakyRelu Less LessOrEqual Log
    LogSoftmax LpNormalization MatMul Max MaxPool Mean Min Mish Mul Neg Not OneHot Or PRelu Pad Pow Range Reciprocal
    ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize
    ScatterND Shape Sigmoid Sign Sin Size Slice Softmax Softplus SpaceToDepth Split Sqrt Squeeze Sub Sum Tanh Tile
    TopK Transpose Trilu Unsqueeze Upsample Where
"""

# What detectors need besides: candidates above a score, suppression of duplicates, boxes at anchors.
_DETECTION_OLD = "matrix_nms multiclass_nms3 share_data where_index yolo_box"
_DETECTION_NEW = "matrix_nms multiclass_nms3 nonzero share_data_ yolo_box"
_DETECTION_ONNX = "GridSample Mod NonMaxSuppression NonZero ScatterElements"


class Kind(NamedTuple):
    """What a network is for, and the operators that it may be made of in each format."""

    name: str
    pdmodel: frozenset[str]
    pir: frozenset[str]
    onnx: frozenset[str]


def _kind(name: str, old: str, new: str, onnx: str) -> Kind:
    # Dialect 0 of the new programs holds types, dialect 1 operators; these are the former's only steps.
    steps = frozenset({*(f"1.{operator}" for operator in new.split()), "p", "0.combine", "0.split", "0.slice"})
    return Kind(name, frozenset(old.split()), steps, frozenset(onnx.split()))


FEATURES = _kind("features", f"{_PADDLE} {_OLD}", f"{_PADDLE} {_NEW}", _ONNX)
DETECTION = _kind(
    "detection",
    f"{_PADDLE} {_OLD} {_DETECTION_OLD}",
    f"{_PADDLE} {_NEW} {_DETECTION_NEW}",
    f"{_ONNX} {_DETECTION_ONNX}",
)
