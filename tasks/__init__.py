"""What a task is: data, preprocessing, metric."""
