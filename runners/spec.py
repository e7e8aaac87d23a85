"""What a training run is asked to do: the spec's types, and their defaults and limits; `experiments` has the other kinds.

The one definition that the reader of spec files, the generated JSON Schema and the runners share. Reading a file and
saying what is wrong with it is `spec_file`'s work. Must not import jax or anything that draws.
"""

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct, field

PositiveInt: TypeAlias = Annotated[int, Meta(ge=1)]
CountOrNever: TypeAlias = Annotated[int, Meta(ge=0)]
"""An interval in steps; 0 switches the thing off."""
PositiveFloat: TypeAlias = Annotated[float, Meta(gt=0)]
NonNegativeFloat: TypeAlias = Annotated[float, Meta(ge=0)]
Fraction: TypeAlias = Annotated[float, Meta(ge=0, lt=1)]
Seed: TypeAlias = Annotated[int, Meta(ge=0, lt=2**32)]
ImportPath: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
"""`package.module:attribute`."""

Precision: TypeAlias = Literal["float32", "float64"]
Activation: TypeAlias = Literal["tanh", "relu", "gelu", "elu", "softplus", "identity"]
Transform: TypeAlias = Literal["none", "sqrt"]
Standardization: TypeAlias = bool | Literal["feature", "channel", "global", "min-max"]
"""true = the data set's own default; else over which axes mean and standard deviation are taken (training examples only), or min-max: all
numbers together go to [0, 1]."""


class Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the spec: frozen, and no key that is not declared."""


class Named(Table, tag_field="name", frozen=True):
    """A table whose key `name` picks its kind, and with it the keys that it may hold."""


# --- [data] ---------------------------------------------------------------------------------------------------------


class DataTable(Named, frozen=True):
    """Keys that every data set has."""

    num_train: PositiveInt | None = None
    """Training examples to use; all there are when absent."""
    num_test: CountOrNever | None = None
    """Test examples to use; when absent the data set's test split, or what training leaves over."""
    subset: Literal["first", "random"] = "first"
    """Which examples `num_train` takes: the first of the file, or a draw by `run.data_seed`."""
    standardize: Standardization = False
    """Subtract the mean and divide by the standard deviation of the training examples, or with "min-max" their least and their range."""


class ImageTable(DataTable, frozen=True):
    """Keys of the image sets, which are read from a folder."""

    dir: str | None = None
    """The folder that holds the files; `$EOS_DATA` when absent."""
    standardize: Standardization = True


class Digits(DataTable, tag="digits", frozen=True):
    """scikit-learn's bundled 1,797 images of 8x8 pixels in 10 classes."""

    standardize: Standardization = True


class DigitsFeatures(DataTable, tag="digits-features", frozen=True):
    """Random features of the digits: relu(X W / sqrt(64)) of the pixels X, W ~ N(0, 1) by `run.data_seed`. All numbers go to [0, 1].

    Source: Jiao and Keller-Ressel (2024), arXiv 2402.01382.
    """

    num_features: PositiveInt = 200
    standardize: Standardization = "min-max"


class Cifar10(ImageTable, tag="cifar10", frozen=True):
    """CIFAR-10 in its "binary version" layout."""


class Mnist(ImageTable, tag="mnist", frozen=True):
    """MNIST as IDX files, gzipped or not."""


class FashionMnist(ImageTable, tag="fashion-mnist", frozen=True):
    """Fashion-MNIST as IDX files, gzipped or not."""


class Npz(DataTable, tag="npz", kw_only=True, frozen=True):
    """A NumPy archive with arrays x [examples, ...] and y [examples] or [examples, outputs]."""

    path: str
    """The file; optional arrays x_test and y_test are its test split."""


class Csv(DataTable, tag="csv", kw_only=True, frozen=True):
    """A comma-separated file, one example a row, features and targets in columns."""

    path: str
    """The file."""
    target: str | tuple[str, ...] | None = None
    """Target column or columns by name (or number from 0 where the file has no header); the last one when absent."""
    task: Literal["auto", "classification", "regression"] = "auto"
    """auto: one integer or text target column is a class label, anything else a real target."""


class Text(DataTable, tag="text", kw_only=True, frozen=True):
    """A text in UTF-8: an example is a window of characters, and its label is the character behind it.

    Windows of the file's first nine tenths train, those of its last tenth test. Characters are numbered in the order of their code
    points.
    """

    path: str
    """The file."""
    context: PositiveInt = 64
    """Characters in a window."""
    stride: PositiveInt | None = None
    """Characters from a window's first to the next one's; `context` when absent, so that each character is in one window."""
    vocabulary: PositiveInt | None = None
    """The so many most frequent characters of the file have a number of their own, all others one together; all have when absent."""


class Chebyshev(DataTable, tag="chebyshev", frozen=True):
    """Chebyshev polynomial T_degree at evenly spaced points of [-1, 1]. Source: Cohen et al. (2021), arXiv 2103.00065."""

    degree: PositiveInt = 4
    num_points: Annotated[int, Meta(ge=2)] = 20


class Gaussian(DataTable, tag="gaussian", frozen=True):
    """x ~ N(0, diag(spectrum)) in a random basis, y = <w, x> + noise."""

    num_train: PositiveInt | None = 200
    num_test: CountOrNever | None = 0
    num_features: PositiveInt = 50
    num_outputs: PositiveInt = 1
    spectrum: tuple[NonNegativeFloat, ...] | None = None
    """Covariance eigenvalues, `num_features` of them; j^-exponent, j = 1, 2, ..., when absent."""
    exponent: NonNegativeFloat = 1.0
    covariance: Literal["population", "empirical"] = "population"
    """Which covariance has the spectrum: that of the distribution, or exactly that of the training examples."""
    noise_std: NonNegativeFloat = 0.1
    teacher_norm: PositiveFloat | None = None
    """Length of each output's w, exactly; when absent w's entries ~ N(0, 1 / num_features), so that it is about 1."""


class CustomData(DataTable, tag="custom", kw_only=True, frozen=True):
    """A user's function; written `name = "package.module:function"`."""

    target: ImportPath
    """Called as function(seed=run.data_seed, **arguments); returns (x, y) or (x, y, x_test, y_test) as arrays."""
    arguments: dict[str, Any] = field(default_factory=dict)


Data: TypeAlias = Digits | DigitsFeatures | Cifar10 | Mnist | FashionMnist | Npz | Csv | Text | Chebyshev | Gaussian | CustomData

# --- [model] --------------------------------------------------------------------------------------------------------


Role: TypeAlias = Literal["input", "hidden", "branch", "inner", "output", "vector", "constant"]
"""What grows with the width: of a matrix its units (input), its inputs and units (hidden), its inputs (output); the length of a bias
or of a norm's scale (vector); nothing (constant). Of a residual branch its end (branch) and what lies before that (inner)."""


class Parametrized(Named, frozen=True):
    """Keys that say how a net's first values and learning rates depend on its width and depth."""

    parametrization: Literal["sp", "ntp", "mup"] = "sp"
    """sp: one learning rate for values as they are drawn; ntp: kernels are 1/sqrt(fan_in) times values of size 1, which are trained;
    mup: the same with an output that starts at 0 as the width grows, and learning rates with which all layers move alike at any width."""
    base_width: PositiveInt = 1
    """mup: the width at which it is ntp, or with Adam sp: the unit of the learning rate."""
    gamma: PositiveFloat = 1.0
    """ntp and mup: what the output is divided by at the base width; smaller is lazier."""
    depth_exponent: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """mup: alpha of the factor L^-alpha of L residual branches, with the learning rates that belong to it: 0 for none, 1/2 to 1."""
    roles: dict[str, Role] = field(default_factory=dict)
    """By parameter name, in which * stands for anything, its role where its shape does not tell."""

    @property
    def num_branches(self) -> int:
        """Residual branches from the input to the output."""
        return 0


class ModelTable(Parametrized, frozen=True):
    """Keys that built-in models have."""

    init_scale: PositiveFloat = 1.0
    """Kernels ~ N(0, init_scale^2 / fan_in), embeddings ~ N(0, init_scale^2), biases 0, scales of norms 1."""
    hidden_scale: PositiveFloat = 1.0
    """Further factor of the kernels from hidden units to hidden units: sqrt(2) keeps the size of what relu leaves."""


class Linear(ModelTable, tag="linear", frozen=True):
    """One linear map from the flattened input to the outputs."""

    bias: bool = False


class Mlp(ModelTable, tag="mlp", frozen=True):
    """Fully connected net on the flattened input."""

    width: PositiveInt = 128
    """Units in each hidden layer."""
    depth: Annotated[int, Meta(ge=2)] = 3
    """Weight layers, the output layer included."""
    activation: Activation = "tanh"
    bias: bool = True


class ResidualMlp(ModelTable, tag="residual-mlp", frozen=True):
    """h = W x, then h += L^-alpha W phi(h) for L branches, then the outputs W phi(h). Source: Noci et al. (2024), arXiv 2402.17457."""

    width: PositiveInt = 128
    """Units of h."""
    depth: PositiveInt = 4
    """L, the number of branches."""
    activation: Activation = "relu"
    bias: bool = False

    @property
    def num_branches(self) -> int:
        """Residual branches from the input to the output."""
        return self.depth


class Cnn(ModelTable, tag="cnn", frozen=True):
    """Convolution, activation and 2x2 pooling, `depth` times, then a linear layer."""

    width: PositiveInt = 32
    """Channels of each convolution."""
    depth: PositiveInt = 2
    """Convolutions."""
    kernel_size: PositiveInt = 3
    activation: Activation = "relu"
    pooling: Literal["average", "max"] = "average"
    bias: bool = True


class SimpleCnn(ModelTable, tag="simple-cnn", frozen=True):
    """A 3x3 convolution of stride 2, one of stride 4, with activation and 2x2 pooling behind each, then a linear layer.

    Takes images with sides of 19 and more. Source: Noci et al. (2024), arXiv 2402.17457.
    """

    width: PositiveInt = 64
    """Channels of both convolutions."""
    activation: Activation = "relu"
    pooling: Literal["average", "max"] = "max"
    bias: bool = False


class ResidualCnn(ModelTable, tag="residual-cnn", frozen=True):
    """A 3x3 convolution of stride 2, residual branches and 2x2 pooling; twice a convolution, branches and pooling; a linear layer.

    A branch adds to x what activation and 3x3 convolution, `layers_per_block` times, make of it. The three convolutions outside of
    branches have no activation behind them. Takes images with sides of 15 and more. Source: Noci et al. (2024), arXiv 2402.17457, whose
    width is that of the linear layer, 4 times this one for images of 32x32: their gamma is 2 here.
    """

    width: PositiveInt = 16
    """Channels of each convolution."""
    depth: PositiveInt = 1
    """Branches in each of the three stages: L is 3 times as many."""
    layers_per_block: PositiveInt = 1
    """Convolutions of a branch."""
    skip: bool = True
    """false: x is replaced by what a branch makes of it, so that all is one sequence of layers."""
    activation: Activation = "relu"
    pooling: Literal["average", "max"] = "max"
    bias: bool = False
    hidden_scale: PositiveFloat = 1.0
    """Further factor of the kernels in branches: sqrt(2) keeps the size of what relu leaves."""

    @property
    def num_branches(self) -> int:
        """Residual branches from the input to the output."""
        return 3 * self.depth if self.skip else 0


class AttentionTable(ModelTable, frozen=True):
    """Keys of the nets with attention: in each block a branch of attention and one of two linear layers, a layer norm before each.

    Queries, keys, values and what is made of a block's heads are linear without bias. Products of queries and keys are divided by
    sqrt(d), with mup by d, where d = width / heads is the length of both.
    """

    width: PositiveInt = 64
    """Numbers at each position."""
    depth: PositiveInt = 2
    """Blocks; each has two residual branches."""
    heads: PositiveInt = 4
    """Into which the width is divided."""
    mlp_ratio: PositiveInt = 4
    """Units between the two linear layers over the width."""
    activation: Activation = "gelu"
    bias: bool = True
    """Of the linear layers outside of attention."""

    @property
    def num_branches(self) -> int:
        """Residual branches from the input to the output."""
        return 2 * self.depth


class Vit(AttentionTable, tag="vit", frozen=True):
    """A vision transformer: patches of an image and a class token, each with its position, and blocks; outputs from the class token.

    Source: Dosovitskiy et al. (2020), arXiv 2010.11929; as in Noci et al. (2024), arXiv 2402.17457, but for the layer behind the heads,
    and hidden units that grow with the width.
    """

    patch_size: PositiveInt = 4
    """Pixels of a patch's sides, which those of the images are multiples of."""


class Transformer(AttentionTable, tag="transformer", frozen=True):
    """A transformer of characters: each with its position, blocks in which none sees a later one; outputs from the last character.

    For `data.name = "text"`. Source: Vaswani et al. (2017), arXiv 1706.03762, with the norms before the branches.
    """


class Vgg11(Parametrized, tag="vgg11", frozen=True):
    """VGG's configuration A with one linear layer: eight 3x3 convolutions in five stages, with 2x2 pooling behind each.

    Takes images with sides in multiples of 32. Kernels of convolutions ~ N(0, 2 / (9 filters)), of the linear layer ~ N(0, 0.01^2),
    biases 0. Source: Simonyan and Zisserman (2014), arXiv 1409.1556; so changed by Arora, Li and Panigrahi (2022), arXiv 2205.09745.
    """

    width: PositiveInt = 64
    """Channels of the first stage; the others have 2, 4, 8 and 8 times as many."""
    activation: Activation = "relu"
    pooling: Literal["average", "max"] = "average"
    bias: bool = True
    train_output: bool = True
    """false: the linear layer stays as it starts, and is no parameter of what is trained and measured."""


class CustomModel(Parametrized, tag="custom", kw_only=True, frozen=True):
    """A user's flax nnx module; written `name = "package.module:Class"`."""

    target: ImportPath
    """Called as Class(input_shape=..., num_outputs=..., rngs=..., **arguments); maps [examples, *input_shape] to [examples, outputs]."""
    arguments: dict[str, Any] = field(default_factory=dict)
    width_argument: str = "width"
    """Name of the argument that is the width; for ntp and mup."""
    branches: CountOrNever = 0
    """Residual branches; for depth_exponent. Modules whose name begins with `branch` are taken for them."""

    @property
    def num_branches(self) -> int:
        """Residual branches from the input to the output."""
        return self.branches


BuiltInModel: TypeAlias = Linear | Mlp | ResidualMlp | Cnn | SimpleCnn | ResidualCnn | Vgg11 | Vit | Transformer
Model: TypeAlias = BuiltInModel | CustomModel

# --- [objective] ----------------------------------------------------------------------------------------------------


class ObjectiveTable(Named, frozen=True):
    """Keys that every objective has."""

    weight_decay: NonNegativeFloat = 0.0
    """rho of the term (rho/2) |parameters|^2, part of the loss that is differentiated and measured."""
    transform: Transform = "none"
    """sqrt: updates descend sqrt(L - minimum) instead of the loss L, with no step where L = minimum; what is measured stays that of L."""
    minimum: float = 0.0
    """The least that the loss L can be; counts for the transform and, with normalized_gd, for pairs of losses."""


class Mse(ObjectiveTable, tag="mse", frozen=True):
    """1/2 sum over outputs, mean over examples; class labels become one-hot targets."""


class CrossEntropy(ObjectiveTable, tag="cross_entropy", frozen=True):
    """Softmax cross-entropy in nats, mean over examples; needs class labels."""


Objective: TypeAlias = Mse | CrossEntropy

# --- [optimizer] ----------------------------------------------------------------------------------------------------


class Schedule(Table, tag_field="kind", frozen=True):
    """A learning rate that depends on the step."""


class Warmup(Schedule, tag="warmup", kw_only=True, frozen=True):
    """Linear from `start` to `peak` in `steps` steps, then constant."""

    peak: PositiveFloat
    steps: PositiveInt
    start: NonNegativeFloat = 0.0


class Cosine(Schedule, tag="cosine", kw_only=True, frozen=True):
    """Linear warm-up from 0 to `peak` in `warmup_steps`, then half a cosine down to `final` at step `steps`."""

    peak: PositiveFloat
    steps: PositiveInt
    warmup_steps: CountOrNever = 0
    final: NonNegativeFloat = 0.0


class Piecewise(Schedule, tag="piecewise", kw_only=True, frozen=True):
    """values[0] until step boundaries[0], then values[1] until boundaries[1], and so on."""

    values: Annotated[tuple[PositiveFloat, ...], Meta(min_length=1)]
    boundaries: tuple[PositiveInt, ...]


class EdgeRate(Schedule, tag="edge", kw_only=True, frozen=True):
    """Feedback: each measurement of `of` makes lr (target / measured)^gain times what it was, so that it comes to its target."""

    of: Literal["sharpness", "noise_kernel", "nearest"]
    """sharpness: over its threshold, for an adaptive optimizer the preconditioned one; noise_kernel: K. Both are 1 at the edge;
    nearest: the larger of the two, where both are measured."""
    initial: PositiveFloat
    """Until the first measurement that counts."""
    target: PositiveFloat = 0.8
    gain: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """1 goes all the way at each measurement, less averages over several."""
    factor: Annotated[float, Meta(gt=1)] = 1.5
    """The most that a measurement multiplies or divides lr by."""
    min: NonNegativeFloat = 0.0
    max: PositiveFloat = 1e3


LearningRate: TypeAlias = PositiveFloat | Warmup | Cosine | Piecewise | EdgeRate


class EdgeBatch(Table, tag_field="kind", tag="edge", kw_only=True, frozen=True):
    """Feedback: a measurement of K above its target doubles the batch size, as often as should bring it there; it never shrinks."""

    initial: PositiveInt
    target: PositiveFloat = 0.8
    max: PositiveInt | None = None
    """All training examples when absent."""


class OptimizerTable(Named, frozen=True):
    """Keys that every optimizer has."""

    lr: LearningRate = 0.1
    batch_size: PositiveInt | Literal["full"] | EdgeBatch = "full"
    sampling: Literal["without_replacement", "with_replacement", "epochs"] = "without_replacement"
    """How a step draws its batch: distinct examples, drawn anew at each step; independent draws; or by passes over a
    shuffled order, of which the last, incomplete batch is dropped."""

    @property
    def drawn(self) -> int | Literal["full"]:
        """Examples in a step's batch; where feedback sets them, at first."""
        return self.batch_size.initial if isinstance(self.batch_size, EdgeBatch) else self.batch_size

    @property
    def warm_steps(self) -> int:
        """Updates of gradient descent before the optimizer's own."""
        return 0


class WarmStart(Table, kw_only=True, frozen=True):
    """Gradient descent on the loss itself, with the full batch, before the optimizer's own updates."""

    steps: PositiveInt
    """Updates of it; the optimizer's own follow, and a schedule of their learning rate counts from there."""
    lr: PositiveFloat


class WarmStarted(OptimizerTable, frozen=True):
    """Keys of the optimizers that begin with gradient descent when asked to."""

    warm_start: WarmStart | None = None
    """For normalized_gd, and for sgd on the root of the loss: what brings the parameters near a minimum first."""

    @property
    def warm_steps(self) -> int:
        """Updates of gradient descent before the optimizer's own."""
        return self.warm_start.steps if self.warm_start else 0


class Sgd(WarmStarted, tag="sgd", frozen=True):
    """x -= lr g; gradient descent with the full batch."""


class HeavyBall(OptimizerTable, tag="heavy_ball", frozen=True):
    """m = momentum m + g; x -= lr m."""

    momentum: Fraction = 0.9


class Nesterov(OptimizerTable, tag="nesterov", frozen=True):
    """m = momentum m + g; x -= lr (g + momentum m)."""

    momentum: Fraction = 0.9


class EmaMomentum(OptimizerTable, tag="ema_momentum", frozen=True):
    """m = momentum m + (1 - momentum) g; x -= lr m."""

    momentum: Fraction = 0.9


class Adam(OptimizerTable, tag="adam", frozen=True):
    """Adam with bias correction; epsilon outside the root."""

    lr: LearningRate = 1e-3
    beta1: Fraction = 0.9
    beta2: Fraction = 0.999
    eps: PositiveFloat = 1e-8


class AdamW(Adam, tag="adamw", frozen=True):
    """Adam, and x -= lr decoupled_decay x."""

    decoupled_decay: NonNegativeFloat = 1e-4


class RmsProp(OptimizerTable, tag="rmsprop", frozen=True):
    """nu = decay nu + (1 - decay) g^2 from nu = 0; x -= lr g / (sqrt(nu) + eps); no bias correction."""

    lr: LearningRate = 1e-3
    decay: Fraction = 0.99
    eps: PositiveFloat = 1e-8


class NormalizedGd(WarmStarted, tag="normalized_gd", frozen=True):
    """x -= lr g / |g|, with the norm over all parameters together; no step where g = 0."""

    lr: LearningRate = 1e-2
    """Length of each step."""
    noise: NonNegativeFloat = 0.0
    """Radius of a ball; a point of it, drawn uniformly, is added to the parameters after each `noise_every`-th step, so that the
    gradient does not stay orthogonal to the top eigenvector. 0 for none."""
    noise_every: PositiveInt = 20


class SignDescent(OptimizerTable, tag="sign_descent", frozen=True):
    """x -= lr sign(g), entry by entry; sign(0) = 0."""

    lr: LearningRate = 1e-3
    """Change of each parameter in a step."""


class Sam(OptimizerTable, tag="sam", frozen=True):
    """Sharpness-aware minimization: x -= lr g(x + rho g(x) / |g(x)|), both gradients on the same batch; plain where g(x) = 0."""

    rho: NonNegativeFloat = 0.05
    """How far from the parameters, uphill, the update takes its gradient; 0 is plain gradient descent."""


class Muon(OptimizerTable, tag="muon", frozen=True):
    """Momentum orthogonalised by five Newton-Schulz iterations for matrices, Adam with Nesterov momentum for all else, as in optax.

    m = momentum m + (1 - momentum) g; x -= lr sqrt(max(1, columns / rows)) O(momentum m' + (1 - momentum) g') for matrices
    [inputs, outputs], with m' and g' corrected for the start m = 0 and O the orthogonalisation. Adam has the same lr,
    beta1 = 0.9, beta2 = 0.999 and eps = 1e-8.
    """

    lr: LearningRate = 0.02
    momentum: Fraction = 0.95
    """Of the matrices; that of all else is beta1."""


class CustomOptimizer(OptimizerTable, tag="custom", kw_only=True, frozen=True):
    """A user's optax chain; written `name = "package.module:function"`, also an optax function itself, such as `"optax:adabelief"`.

    Its state shows the second moment nu that it divides by the root of, but not how. After t updates P is taken to be
    (1 - beta1^t) (sqrt(nu / (1 - beta2^t) + eps_root) + eps) with beta2, which is Adam's, and sqrt(nu + eps_root) + eps without.
    """

    target: ImportPath
    """Called as function(lr, **arguments), lr a function of the step as in all of optax; returns an optax.GradientTransformation."""
    arguments: dict[str, Any] = field(default_factory=dict)
    second_moment: str = "auto"
    """Field of the chain's state that holds nu, shaped like the parameters. "auto": nu_max, else nu, else sum_of_squares, if
    there is one of it; "none": nothing is divided by."""
    beta1: Fraction | None = None
    """States that x -= lr P^-1 m with m = beta1 m + (1 - beta1) g, and with 0 that m = g: its edge is Adam's. When absent no
    edge is known, and P is as for 0."""
    beta2: Fraction | None = None
    """Of nu = beta2 nu + (1 - beta2) g^2, where its start at 0 is corrected for; absent where it is not."""
    eps: PositiveFloat = 1e-8
    eps_root: NonNegativeFloat = 0.0


BuiltInOptimizer: TypeAlias = Sgd | HeavyBall | Nesterov | EmaMomentum | Adam | AdamW | RmsProp | NormalizedGd | SignDescent | Sam | Muon
Optimizer: TypeAlias = BuiltInOptimizer | CustomOptimizer

# --- [measure], [run] -----------------------------------------------------------------------------------------------


class Measure(Table, frozen=True):
    """What is measured, how often and how well."""

    sharpness_every: CountOrNever = 10
    solve_every: PositiveInt = 1
    """With sharpness_every = 1: at how many steps' distance the sharpness is solved for. At the others it is followed, by one product
    in the update itself, which gives a lower bound."""
    ntk_every: CountOrNever = 50
    evaluate_every: CountOrNever = 100
    """Training and test loss and accuracy on all the examples that the spec names."""
    tolerance: Annotated[float, Meta(gt=0, lt=1)] = 1e-3
    """Relative error asked of the sharpness."""
    top_k: PositiveInt = 1
    """Hessian eigenvalues to compute, from the largest down."""
    verify_every: CountOrNever = 500
    """Look for the sharpness from a random start as well: the eigenvectors kept from before may miss one that overtakes."""
    smallest: bool = False
    """Measure the smallest Hessian eigenvalue beside the largest; often dearer, as it is small and has near neighbours."""
    gauss_newton_every: CountOrNever = 0
    """Top Gauss-Newton eigenvalues, and how much of the sharpness they leave to the residual part."""
    layers_every: CountOrNever = 0
    """Sharpness of each layer alone."""
    activations_every: CountOrNever = 0
    """Size of what each layer gives out, and its change since the start."""
    gradient_every: CountOrNever = 0
    """Sharpness along the gradient, its alignment with the top eigenvectors, and the critical sharpness; at these steps
    the sharpness is measured as well."""
    hessian_trace_every: CountOrNever = 0
    """Trace of the Hessian."""
    hessian_trace_hvps: Annotated[int, Meta(ge=4)] = 32
    """Hessian-vector products that an estimate of the trace takes."""
    density_every: CountOrNever = 0
    """Density of the Hessian's eigenvalues."""
    density_probes: Annotated[int, Meta(ge=2)] = 4
    """Random vectors of an estimate of the density."""
    density_order: Annotated[int, Meta(ge=2)] = 32
    """Products for each: the density is resolved to the range of the eigenvalues over it."""
    batch_sharpness_every: CountOrNever = 0
    """Sharpness as fresh batches of the optimizer's size see it along their own gradients."""
    batch_sharpness_batches: Annotated[int, Meta(ge=2)] = 64
    """Batches of an estimate."""
    batch_sharpness_full: bool = False
    """Measure the curvature of the whole loss along the batches' gradients too; a product on all examples for each batch."""
    mean_square_every: CountOrNever = 0
    """Learning rate at which plain SGD stops being stable in mean square, without an approximation; for few measured examples."""
    stableness_every: CountOrNever = 0
    """How stable two updates in a row are; for gradient descent, normalised or not, on the loss or its root, with the full batch."""
    stableness_points: Annotated[int, Meta(ge=2)] = 5
    """Points on the way of an update at which the sharpness is measured, its ends included."""
    limiting_flow_every: CountOrNever = 0
    """How near normalised gradient descent, or gradient descent on the root of the loss, is to its limiting flow; for few parameters."""
    max_hvps: Annotated[int, Meta(ge=2)] = 300
    """Hessian-vector products after which a measurement gives up and says `converged: false`."""
    num_examples: PositiveInt | Literal["all"] = "all"
    """The first so many training examples; all of them when "all"."""
    chunk_size: PositiveInt | Literal["auto"] = "auto"
    """Examples in one pass; bounds the memory, and shows in the result by rounding alone. "auto": all of them where a
    linearised gradient keeps no more than 1 GiB, else as many as keep so much."""
    ntk_method: Literal["auto", "exact", "hutchinson"] = "auto"
    ntk_probes: Annotated[int, Meta(ge=2)] = 4
    """Random probes of Hutchinson's estimator, of each group of examples."""
    ntk_eigenvalues: CountOrNever | Literal["auto"] = "auto"
    """Top Gauss-Newton eigenvalues, which enter K beside the trace. "auto": 5 where there is a K, else none."""
    tail_gauge: bool = False
    """What K and the largest Gauss-Newton eigenvalue would say of the parameters' tail index in the long run, if this were least
    squares; for plain SGD in batches with squared error."""

    @property
    def follows(self) -> bool:
        """Whether the sharpness is followed from one solve to the next."""
        return self.sharpness_every == 1 and self.solve_every > 1

    @property
    def sharpness_solve_every(self) -> int:
        """Steps from one solve of the sharpness to the next; 0 for never."""
        return self.solve_every if self.follows else self.sharpness_every


class Run(Table, frozen=True):
    """How long, from which seeds, in which precision."""

    steps: PositiveInt = 1000
    seed: Seed = 0
    init_seed: Seed | None = None
    data_seed: Seed | None = None
    order_seed: Seed | None = None
    precision: Precision = "float32"
    checkpoint_every: CountOrNever = 1000
    divergence_factor: Annotated[float, Meta(gt=1)] = 1e6
    """The run has diverged when its loss exceeds this many times max(1, its first loss)."""


class Train(Table, tag_field="runner", tag="train", frozen=True):
    """A training loop under measurement."""

    data: Data = field(default_factory=Digits)
    model: Model = field(default_factory=Mlp)
    objective: Objective = field(default_factory=Mse)
    optimizer: Optimizer = field(default_factory=Sgd)
    measure: Measure = field(default_factory=Measure)
    run: Run = field(default_factory=Run)
