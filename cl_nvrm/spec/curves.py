"""Names of what is recorded after every epoch, as results hold them."""

TEST, TRAINING, VALIDATION = "test accuracy", "training accuracy", "validation accuracy"
# Of training samples whose label was flipped: predicted as the wrong label says, and as the true class.
MEMORISED, CORRECTED = "memorised", "corrected"
