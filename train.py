"""Train one cell of a table, or sweep many:

python train.py task=rte budget=0.3M method=adalora
python train.py --multirun budget=0.3M,0.6M,1.2M seed=1,2,3,4,5
"""

from adalora.cli import command

if __name__ == "__main__":
    command()
