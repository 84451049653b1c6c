// Chapter: a text, the chance of each of its tokens before it came, and what is likeliest to come next.

const EXAMPLES = [' fox red. whale blue. fox', ' the fox is red. the whale is blue. the fox is',
  ' lion gold crow black lion gold crow'];

const guessChapter = (stage, nano, data, story) => {
  const bars = guesses(nano, 'Likeliest next tokens'), said = sentence();
  const row = strip(story, {label: 'Tokens; the bar is the chance that each was given before it came',
    level: token => story.chance(token)});
  story.on(() => {
    if (unseen(stage)) return;
    bars.show(story.logits);
    if (!story.logits) { said.textContent = ''; return; }
    const chances = softmax(story.logits), first = largest(chances), next = story.ids[story.at + 1];
    said.textContent = `After ${story.name(story.at)} nano thinks ${quoted(nano, first)} the likeliest: ` +
      `${percent(chances[first])}.`;
    if (next === first) said.textContent += ' So the text goes on.';
    else if (next !== undefined) {
      said.textContent += ` The text goes on with ${quoted(nano, next)}, to which it gave ${percent(chances[next])}.`;
    }
  });
  stage.append(editor(story, EXAMPLES), row.root, stepper(story, {grow: true}), said, bars.root);
};
