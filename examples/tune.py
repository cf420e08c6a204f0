"""Find settings for a task with optuna, which ends trials early that fall behind: python examples/tune.py [TRIALS] [STEPS]"""

import sys

import optuna

import dreamerjax

TRIALS = int(sys.argv[1]) if len(sys.argv) > 1 else 10
STEPS = int(sys.argv[2]) if len(sys.argv) > 2 else 4_000


def objective(trial):
    settings = {
        "optim.actor_lr": trial.suggest_float("optim.actor_lr", 1e-4, 1e-2, log=True),
        "behavior.entropy": trial.suggest_float("behavior.entropy", 1e-4, 1e-2, log=True),
        "behavior.horizon": trial.suggest_int("behavior.horizon", 5, 20),
    }

    def on_evaluation(metrics):
        trial.report(metrics["eval/greedy/return_mean"], int(metrics["env_step"]))
        return not trial.should_prune()  # False ends the training, with a checkpoint

    settings |= {"size": "tiny", "train.eval_every": STEPS // 8, "run.root": "runs/tune", "run.name": f"trial-{trial.number}"}
    agent = dreamerjax.learn("CartPole-v1", STEPS, on_evaluation=on_evaluation, **settings)
    if agent.env_step < STEPS:
        if not trial.should_prune():  # it was Ctrl-C
            trial.study.stop()
        raise optuna.TrialPruned
    return agent.evaluate(20).returns.mean()


if __name__ == "__main__":
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner(n_startup_trials=3))
    study.optimize(objective, TRIALS)
    print(f"best: {study.best_value:.0f} with {study.best_params}")
