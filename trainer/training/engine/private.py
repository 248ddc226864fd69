"""What is used of DeepSpeed (0.19) beside its documented calls: tests/trainer/training/engine/test_contract.py holds
that this package uses no other such name, and that the installed version still has them.
"""

# Name -> the file of DeepSpeed that defines it.
PRIVATE = {
    # the norm before the step, and an update that is skipped
    "optimizer": "runtime/zero/stage_1_and_2.py",
    "scaled_global_norm": "runtime/zero/stage_1_and_2.py",
    "unscale_and_clip_grads": "runtime/zero/stage_1_and_2.py",
    "averaged_gradients": "runtime/zero/stage_1_and_2.py",
    "cpu_offload": "runtime/zero/stage_1_and_2.py",
    "_zero_padding": "runtime/zero/stage_1_and_2.py",
    "_wait_for_offload_copies": "runtime/zero/stage_1_and_2.py",
    "_get_norm_groups": "runtime/zero/stage3.py",
    "combine_grad_norm_groups": "runtime/utils.py",
    # stages 1 and 2: the flat partitions, and the fragments of parameters in them
    "single_partition_of_fp32_groups": "runtime/zero/stage_1_and_2.py",
    "_hp_mapping": "utils/tensor_fragment.py",
    "param_group_index": "utils/tensor_fragment.py",
    "hp_fragment_address": "utils/tensor_fragment.py",
    "lp_fragment_address": "utils/tensor_fragment.py",
    "get_hp_fragment": "utils/tensor_fragment.py",
    "update_lp_params": "runtime/zero/stage_1_and_2.py",
    # weights in bf16 on their way, after an update of stages 1 and 2
    "bit16_groups": "runtime/zero/stage_1_and_2.py",
    "bit16_groups_flat": "runtime/zero/stage_1_and_2.py",
    "parallel_partitioned_bit16_groups": "runtime/zero/stage_1_and_2.py",
    "_update_model_bit16_weights": "runtime/zero/stage_1_and_2.py",
    "_link_all_hp_params": "runtime/zero/stage_1_and_2.py",
    # and before passes of stage 3
    "comm_dtype": "runtime/torch_autocast.py",
    "_partition_all_parameters": "runtime/zero/stage3.py",
    "invalidate_secondary_tensor": "runtime/zero/stage3.py",
    # stage 3: partitioned parameters
    "fp32_partitioned_groups_flat": "runtime/zero/stage3.py",
    "fp16_partitioned_groups_flat": "runtime/zero/stage3.py",
    "_unflatten_partitioned_parameters": "runtime/zero/stage3.py",
    "lp_param_buffer": "runtime/zero/stage3.py",
    "offload_optimizer": "runtime/zero/stage3.py",
    "offload_param": "runtime/zero/stage3.py",
    "grad_position": "runtime/zero/stage3.py",
    "get_param_id": "runtime/zero/stage3.py",
    "persistent_parameters": "runtime/zero/stage3.py",
    "set_z3_leaf_module": "utils/z3_leaf_module.py",  # whose parameters are gathered at once, for all that it calls
    "ds_tensor": "runtime/zero/partition_parameters.py",
    "ds_numel": "runtime/zero/partition_parameters.py",
    "ds_shape": "runtime/zero/partition_parameters.py",
    "ds_zero_partition_rank": "runtime/zero/partition_parameters.py",
    # experts that several ranks share: the groups, and the marks on their parameters
    "groups": "utils/__init__.py",
    "_create_expert_and_data_parallel": "utils/groups.py",
    "_get_expert_parallel_group": "utils/groups.py",
    "_get_expert_data_parallel_group": "utils/groups.py",
    "_get_expert_parallel_rank": "utils/groups.py",
    "allreduce": "moe/utils.py",
    "group_name": "moe/utils.py",
    "ds_zero_placement_family": "runtime/zero/stage3.py",
    "ds_zero_partition_group_name": "runtime/zero/stage3.py",
    "ds_zero_partition_process_group": "runtime/zero/partition_parameters.py",
    "MoE": "moe/layer.py",
    # importing without a compiler
    "__compatible_ops__": "ops/__init__.py",
}
