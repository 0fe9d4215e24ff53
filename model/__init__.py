"""The model: embeddings that learn from a stream, one micro-batch at a time.

Reading order: interactions (what comes in) · ids and vocabulary (ids become rows) · settings · learner (test, then
learn: the whole step) · live (what moves event by event inside a batch: history, seen, counts) · encoders (history ->
user vector) · letting_go (who makes room: idle and leaving choose) · ranking (ranks, and the gradients of the softmax;
sampled for large catalogues) · ranking_parameters (what a step moves) · losses and negatives · ratings and factors (two
rating models) · content and user_content (what is said of items, and of users; said_of_users where anything is) ·
tables and optimizers (rows that grow, and how they move) · topk (the lists, from scores; item_index, cold_index and
kernels/scan find them, in several threads by side_by_side, grouped does on a GPU, recall measures the loose ones) ·
explanations (what a score is made of, and owes to what) · evaluation (rank -> HR, NDCG, MRR) · state (digest, save and
load; ragged: lists before they are packed).

Shapes are in the names of arrays:

    B  interactions of a batch, in stream order      U  users (rows, or the touched ones)
    I  items (rows)                                   N  negatives
    W  window: a user's last interactions, newest first
    K  length of a list                               D  width of an embedding
    F  width of a rating factor

so that `scores_BI = users_BD @ items_ID.T`. Row numbers are -1 where there is nothing.

Torch, numpy and the standard library only: no Kafka, no clock, no environment, no files, no printing.
"""
