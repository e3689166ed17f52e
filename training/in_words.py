"""A plan in plain words, for those who read cards and reports. No path of any machine is among them."""

from training.markdown import percent
from training.plan import NoiseStrengths, Plan, PseudoLabelling, Recipe


def plan(document: Plan) -> str:
    """A Markdown list: who teaches whom, on what, and with which noise."""
    lines = [f"- Teacher: {recipe(document.teacher_recipe) if document.teacher is None else 'a network that was there before'}."]
    if document.rounds:
        lines += [f"- Student {number}: {recipe(one)}." for number, one in enumerate(document.student_recipes, start=1)]
        lines.append(f"- Rounds: {document.rounds} at most; further ones use the last student's recipe.")
        lines.append(f"- Noise for students: {noise(document.noise)}.")
        if share := document.pseudo_labelling.soften_labels:
            lines.append(f"- People's labels: {percent(share)} of each is the teacher's opinion.")
    if document.unlabelled:
        lines.append(f"- Pseudo labels: {pseudo_labelling(document.pseudo_labelling)}.")
    lines.append(f"- Seed: {document.seed}.")
    return "\n".join(lines)


def recipe(document: Recipe) -> str:
    stretches = ", then ".join(f"{counted(stretch.epochs, 'epoch')} at {stretch.size} px" for stretch in document.stretches)
    parts = f"width {document.design.width:g}, {stretches}, batches of {document.batch}, AdamW up to {document.learning_rate:g}"
    return f"{parts}, from the teacher's weights on" if document.from_teacher else parts


def noise(strengths: NoiseStrengths) -> str:
    values = strengths.model_dump(exclude={"groups_per_batch"})
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in values.items())


def pseudo_labelling(lessons: PseudoLabelling) -> str:
    balanced = f"evened out over the classes with up to {lessons.most_repeats} repeats" if lessons.balanced else "not evened out"
    return f"soft, from a score of {lessons.threshold:g} up, {balanced}"


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
