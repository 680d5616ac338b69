#!/usr/bin/env python3
"""Model folders as nnU-Net v2's trainer leaves them, with random weights that still segment something.

    make_nnunet_models.py CT.nii.gz FOLDER [--only NAME ...] [--seed N]

nnU-Net's own trainer class builds each network, takes one step of its optimiser (so that there is a state of it) and saves
the checkpoint: names, aliases, numpy scalars and the like in the pickle are its own; tensors are said to come from a card,
as those of most trainings, and folds above 0 name numpy's classes as versions before 2 do. Weights are drawn at random; the
last layers are scaled on a piece of the scan, preprocessed by nnU-Net, until every class wins a good share of its voxels.
Writes FOLDER/<name>/Dataset9xx_<Name>/<trainer>__<plans>__<configuration>/{dataset.json,plans.json,fold_k/...}:

    plain         PlainConvUNet, plans in the old format, 1.5 mm, folds 0 and 1, mirrored along all axes
    residual      ResidualEncoderUNet, axes transposed, reader that reorients, mirrored along the first and last axis
    anisotropic   slices of 4.8 mm, first kernels and strides flat: resampled slice by slice; trainer without mirroring
    regions       overlapping regions instead of labels, two of three axes mirrored
    inherits      a configuration that inherits another one twice over and changes patch, spacing and strides
    zscore        normalised by its own mean and deviation, folds 0 and 2, five classes, residual with a stem

Needs nnunetv2 (requirements-nnunet.txt). Takes less than a minute on two cores.
"""

import argparse
import copy
import functools
import io
import json
import os
import sys
import tempfile
import zipfile
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import torch

PLAIN = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
RESIDUAL = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
RESAMPLING = "resample_data_or_seg_to_shape"
# Of a collection of chest CTs: what CTNormalization clips and divides by.
INTENSITIES = {"max": 3071.0, "mean": 31.5, "median": 44.0, "min": -1024.0, "percentile_00_5": -962.0,
               "percentile_99_5": 655.0, "std": 262.625}
SHARE = 0.08


def resampling(order, is_seg=False):
    return {"is_seg": is_seg, "order": order, "order_z": 0, "force_separate_z": None}


def configuration(patch, spacing, normalisation="CTNormalization", **more):
    """What every configuration says, besides its network."""
    return {
        "data_identifier": "nnUNetPlans_3d_fullres", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2,
        "patch_size": patch, "median_image_size_in_voxels": [float(n) for n in patch], "spacing": spacing,
        "normalization_schemes": [normalisation], "use_mask_for_norm": [False],
        "resampling_fn_data": RESAMPLING, "resampling_fn_data_kwargs": resampling(3),
        "resampling_fn_seg": RESAMPLING, "resampling_fn_seg_kwargs": resampling(1, True),
        "resampling_fn_probabilities": RESAMPLING, "resampling_fn_probabilities_kwargs": resampling(1),
        "batch_dice": False, **more,
    }


def architecture(name, features, strides, kernels, **counts):
    """A network in the new format of plans."""
    return {
        "network_class_name": name,
        "arch_kwargs": {
            "n_stages": len(features), "features_per_stage": features, "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": kernels, "strides": strides, **counts, "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True}, "dropout_op": None, "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def old_architecture(features, greatest, strides, kernels, convs):
    """The same in the old format: no class arguments, features double up to the greatest."""
    stages = len(strides)
    return {
        "UNet_class_name": "PlainConvUNet", "UNet_base_num_features": features, "unet_max_num_features": greatest,
        "n_conv_per_stage_encoder": [convs] * stages, "n_conv_per_stage_decoder": [convs] * (stages - 1),
        "num_pool_per_axis": [sum(s[axis] > 1 for s in strides) for axis in range(3)],
        "pool_op_kernel_sizes": strides, "conv_kernel_sizes": kernels,
    }


def plans(dataset, name, configurations, reader="SimpleITKIO", forward=(0, 1, 2)):
    last = list(configurations.values())[0]
    return {
        "dataset_name": dataset, "plans_name": name,
        "original_median_spacing_after_transp": last["spacing"],
        "original_median_shape_after_transp": last["patch_size"], "image_reader_writer": reader,
        "transpose_forward": list(forward), "transpose_backward": [int(i) for i in np.argsort(forward)],
        "configurations": configurations, "experiment_planner_used": "ExperimentPlanner", "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": INTENSITIES},
    }


def dataset(labels, channel="CT", **more):
    return {"channel_names": {"0": channel}, "labels": labels, "numTraining": 12, "file_ending": ".nii.gz", **more}


CUBE = [3, 3, 3]
HALVE = [2, 2, 2]
SAME = [1, 1, 1]


def variants():
    """Name -> plans, dataset, configuration, folds, trainer, axes mirrored (None: what the trainer says)."""
    made = {}
    heart = {"background": 0, "heart": 1, "aorta": 2}
    strides = [SAME, HALVE, HALVE, HALVE]
    old = old_architecture(8, 32, strides, [CUBE] * 4, 2)
    made["plain"] = dict(
        plans=plans("Dataset911_Plain", "nnUNetPlans", {"3d_fullres": configuration([48, 56, 64], [1.5] * 3, **old)}),
        dataset=dataset(heart), folds=[0, 1])

    network = architecture(RESIDUAL, [8, 16, 24, 24], strides, [CUBE] * 4,
                           n_blocks_per_stage=[1, 2, 2, 2], n_conv_per_stage_decoder=[1, 1, 1])
    made["residual"] = dict(
        plans=plans("Dataset912_Residual", "nnUNetResEncUNetMPlans",
                    {"3d_fullres": configuration([40, 48, 64], [1.7, 1.6, 1.5], architecture=network)},
                    reader="NibabelIOWithReorient", forward=(1, 2, 0)),
        dataset=dataset({"background": 0, "myocardium": 1, "blood": 2, "fat": 3}), folds=[0], mirror=(0, 2))

    network = architecture(PLAIN, [6, 12, 24, 24], [SAME, [1, 2, 2], HALVE, HALVE], [[1, 3, 3], CUBE, CUBE, CUBE],
                           n_conv_per_stage=[2, 2, 2, 2], n_conv_per_stage_decoder=[2, 2, 2])
    made["anisotropic"] = dict(
        plans=plans("Dataset913_Anisotropic", "nnUNetPlans",
                    {"3d_fullres": configuration([12, 64, 56], [4.8, 1.4, 1.4], architecture=network)}),
        dataset=dataset(heart), folds=[0], trainer="nnUNetTrainerNoMirroring")

    network = architecture(PLAIN, [8, 16, 32], strides[:3], [CUBE] * 3,
                           n_conv_per_stage=[2, 1, 2], n_conv_per_stage_decoder=[1, 2])
    regions = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "centre": 3}
    made["regions"] = dict(
        plans=plans("Dataset914_Regions", "nnUNetPlans",
                    {"3d_fullres": configuration([56, 64, 56], [1.8, 1.7, 1.8], architecture=network)}),
        dataset=dataset(regions, regions_class_order=[1, 2, 3]), folds=[0], mirror=(0, 1))

    network = architecture(PLAIN, [8, 16, 32], strides[:3], [CUBE] * 3,
                           n_conv_per_stage=[1, 2, 2], n_conv_per_stage_decoder=[1, 1])
    full = configuration([64, 64, 64], [1.5] * 3, architecture=network)
    coarse = {"inherits_from": "3d_fullres", "data_identifier": "nnUNetPlans_3d_coarse", "spacing": [2.1, 2.0, 2.2]}
    flat = copy.deepcopy(network)
    flat["arch_kwargs"].update(strides=[SAME, [2, 2, 2], [1, 2, 2]], kernel_sizes=[CUBE, CUBE, [1, 3, 3]])
    small = {"inherits_from": "3d_coarse", "patch_size": [24, 40, 48], "architecture": flat}
    made["inherits"] = dict(
        plans=plans("Dataset915_Inherits", "nnUNetPlans",
                    {"3d_fullres": full, "3d_coarse": coarse, "3d_small": small}, reader="NibabelIO"),
        dataset=dataset(heart), configuration="3d_small", folds=[0])

    network = architecture(RESIDUAL, [8, 16, 16], strides[:3], [CUBE] * 3,
                           n_blocks_per_stage=[2, 2, 2], n_conv_per_stage_decoder=[1, 1])
    made["zscore"] = dict(
        plans=plans("Dataset916_ZScore", "nnUNetResEncUNetLPlans",
                    {"3d_fullres": configuration([48, 56, 56], [2.2] * 3, "ZScoreNormalization", architecture=network)},
                    reader="SimpleITKIOWithReorient"),
        dataset=dataset({"background": 0, "one": 1, "two": 2, "three": 3, "four": 4}, channel="MR"),
        folds=[0, 2], trainer="nnUNetTrainerNoMirroring")
    return made


def draw(network, generator):
    """Random weights of a size that keeps activations alive."""
    def uniform(tensor, low, high):
        tensor.data = torch.rand(tensor.shape, generator=generator) * (high - low) + low

    def normal(tensor, deviation):
        tensor.data = torch.randn(tensor.shape, generator=generator) * deviation

    for module in network.modules():
        if isinstance(module, (torch.nn.Conv3d, torch.nn.ConvTranspose3d)):
            transposed = isinstance(module, torch.nn.ConvTranspose3d)
            fan_in = module.weight.shape[0] if transposed else module.weight[0].numel()
            normal(module.weight, (2 / fan_in) ** 0.5)
            if module.bias is not None:
                normal(module.bias, 0.2)
        elif isinstance(module, torch.nn.InstanceNorm3d):
            uniform(module.weight, 0.5, 1.5)
            normal(module.bias, 0.3)


def labels(heads, regions):
    """The class of each voxel; of regions the last one that it is inside of, or 0."""
    if not regions:
        return heads.argmax(0)
    return (torch.arange(1, len(heads) + 1)[:, None, None, None] * (heads > 0)).amax(0)


def scale_heads(network, patch, regions):
    """Every output channel to mean 0 and deviation 2 on the patch, regions less and less of it; the least class's share."""
    network.eval()
    network.decoder.deep_supervision = False
    with torch.no_grad():
        head, out = network.decoder.seg_layers[-1], network(patch)[0]
        centre, deviation = out.mean((1, 2, 3)), out.std((1, 2, 3))
        if regions:
            outside = [0.45 + 0.15 * channel for channel in range(len(out))]
            centre = torch.stack([torch.quantile(o[::2, ::2, ::2], q) for o, q in zip(out, outside)])
        head.weight.data *= (2 / deviation)[:, None, None, None, None]
        head.bias.data = (head.bias.data - centre) * 2 / deviation
        if not regions:
            head.bias.data[0] += 0.3
        won = labels(network(patch)[0], regions)
        return float(torch.bincount(won.flatten(), minlength=len(out) + regions).min() / won.numel())


def step_once(trainer, shape):
    """One step of the trainer's own optimiser, on noise: afterwards there is momentum to save."""
    loss = sum((out**2).mean() for out in trainer.network(torch.randn(1, 1, *shape)))
    loss.backward()
    trainer.optimizer.step()


def preprocessed(trainer, scan):
    """The middle of the scan as the network sees it, one patch [1, 1, z, y, x]."""
    manager, plans_manager = trainer.configuration_manager, trainer.plans_manager
    preprocessor = manager.preprocessor_class(verbose=False)
    data, _, _ = preprocessor.run_case([str(scan)], None, plans_manager, manager, trainer.dataset_json)
    patch = torch.zeros(1, 1, *manager.patch_size)
    length = [min(have, want) for have, want in zip(data.shape[1:], manager.patch_size)]
    start = [(have - n) // 2 for have, n in zip(data.shape[1:], length)]
    middle = data[(slice(None), *[slice(s, s + n) for s, n in zip(start, length)])]
    patch[(0, slice(None), *[slice(0, n) for n in length])] = torch.as_tensor(np.asarray(middle))
    return patch


def as_numpy_1(checkpoint):
    """Names numpy's classes as torch.save did before numpy 2."""
    with zipfile.ZipFile(checkpoint) as file:
        members = [(info, file.read(info)) for info in file.infolist()]
    with zipfile.ZipFile(checkpoint, "w", zipfile.ZIP_STORED) as file:
        for info, data in members:
            if info.filename.endswith("/data.pkl"):
                data = data.replace(b"cnumpy._core.multiarray\nscalar\n", b"cnumpy.core.multiarray\nscalar\n")
            file.writestr(info, data)


def make(name, variant, scan, folder, seed):
    """One model folder with all its folds; prints what the classes win."""
    import nnunetv2
    from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

    where = Path(nnunetv2.__path__[0]) / "training" / "nnUNetTrainer"
    wanted = variant.get("trainer", "nnUNetTrainer")
    trainer_class = recursive_find_python_class(str(where), wanted, "nnunetv2.training.nnUNetTrainer")
    chosen = variant.get("configuration", "3d_fullres")
    regions = "regions_class_order" in variant["dataset"]
    model = Path(folder) / name / variant["plans"]["dataset_name"] / \
        f"{trainer_class.__name__}__{variant['plans']['plans_name']}__{chosen}"
    model.mkdir(parents=True, exist_ok=True)
    (model / "plans.json").write_text(json.dumps(variant["plans"], indent=4))
    (model / "dataset.json").write_text(json.dumps(variant["dataset"], indent=4))
    for fold in variant["folds"]:
        told = copy.deepcopy({**variant["plans"], "continue_training": False})
        trainer = trainer_class(told, chosen, fold, variant["dataset"], torch.device("cpu"))
        trainer.network = trainer.build_network_architecture(
            trainer.plans_manager, trainer.configuration_manager, 1,
            trainer.label_manager.num_segmentation_heads, True)
        trainer.optimizer, trainer.lr_scheduler = trainer.configure_optimizers()
        trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        if "mirror" in variant:
            trainer.inference_allowed_mirroring_axes = variant["mirror"]
        patch = preprocessed(trainer, scan)
        torch.manual_seed(seed)
        step_once(trainer, variant.get("step_on", trainer.configuration_manager.patch_size))
        for attempt in range(40):
            generator = torch.Generator().manual_seed(seed + 1000 * fold + attempt)
            draw(trainer.network, generator)
            if "weights" in variant:
                least = variant["weights"](trainer.network, patch)
            else:
                least = scale_heads(trainer.network, patch, regions)
            if least >= variant.get("share", SHARE):
                break
        else:
            sys.exit(f"make_nnunet_models.py: {name}: a class wins nearly nothing with any of 40 draws")
        trainer.network.decoder.deep_supervision = True
        for epoch in range(3):
            trainer.logger.log("train_losses", np.float32(-0.5 - 0.1 * epoch), epoch)
            trainer.logger.log("mean_fg_dice", np.float64(0.7 + 0.05 * epoch), epoch)
            trainer.logger.log("dice_per_class_or_region", [np.float32(0.7)] * 2, epoch)
            trainer.logger.log("epoch_start_timestamps", 1.7e9 + epoch, epoch)
        trainer.current_epoch, trainer._best_ema = 3, np.float64(0.8)
        trainer.my_init_kwargs["device"] = torch.device("cuda", 0)
        checkpoint = model / f"fold_{fold}" / "checkpoint_final.pth"
        checkpoint.parent.mkdir(exist_ok=True)
        trainer.save_checkpoint(str(checkpoint))
        if fold:
            as_numpy_1(checkpoint)
        yield model, fold, least


@functools.cache
def say_from_a_card():
    """Where a storage is said to have lived; loading asks the next in line."""
    torch.serialization.register_package(0, lambda storage: "cuda:0", lambda storage, location: None)


def write(scan, folder, only=None, seed=20, wanted=None):
    """Every variant of `wanted` [default: of this module], or those named, into the folder; says what each fold is."""
    say_from_a_card()
    with tempfile.TemporaryDirectory() as scratch:
        # The trainer writes its log where these say; read when it is imported.
        os.environ.update(nnUNet_raw=scratch, nnUNet_preprocessed=scratch, nnUNet_results=scratch)
        for name, variant in (wanted or variants()).items():
            if only and name not in only:
                continue
            with redirect_stdout(io.StringIO()):
                folds = list(make(name, variant, scan, folder, seed))
            for model, fold, least in folds:
                print(f"{model.relative_to(folder)} fold {fold}: every class wins at least {100 * least:.1f} %", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(variants()), help="[default: all]")
    parser.add_argument("--seed", type=int, default=20)
    options = parser.parse_args()
    write(options.scan, options.folder, options.only, options.seed)


if __name__ == "__main__":
    main()
