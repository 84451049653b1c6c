// The chapters, one at a time, and the way between them.

const data = JSON.parse(embedded('data'));
const nano = new Nano(data.config, weightsOf(data.index, embedded('weights')), new Tokenizer(data.tokenizer));
const story = new Reader(nano, EXAMPLES[0]);
const BUILT = {guess: guessChapter, layers: layersChapter, state: stateChapter, gate: gateChapter, look: lookChapter,
  overwrite: overwriteChapter, thinking: thinkingChapter, play: playChapter};
const chapters = [...document.querySelectorAll('.chapter')], open = new Set();

const title = chapter => chapter.querySelector('h2').textContent;
const links = chapters.map((chapter, i) => el('a', {href: `#${chapter.id}`}, el('b', {}, String(i + 1)),
  el('span', {}, title(chapter))));
document.getElementById('chapters').append(...links);
document.getElementById('strip').append(layerStrip(nano).root);
chapters.forEach((chapter, i) => {
  const way = (step, words) => chapters[i + step] && el('a', {href: `#${chapters[i + step].id}`,
    class: step > 0 ? 'main' : ''}, words(title(chapters[i + step])));
  chapter.append(el('nav', {class: 'ways', 'aria-label': 'Chapters before and after'},
    way(-1, text => `← ${text}`) ?? el('span'), way(1, text => `${text} →`)));
});

const show = async (focus = true) => {
  const chosen = chapters.find(chapter => `#${chapter.id}` === location.hash) ?? chapters[0];
  chapters.forEach((chapter, i) => {
    chapter.hidden = chapter !== chosen;
    if (chapter === chosen) links[i].setAttribute('aria-current', 'page');
    else links[i].removeAttribute('aria-current');
  });
  document.body.classList.toggle('within', chosen !== chapters[0]);
  await story.ready;
  if (!open.has(chosen.id)) {
    open.add(chosen.id);
    BUILT[chosen.id](chosen.querySelector('.stage'), nano, data, story);
  } else story.tell();
  if (focus) {
    const head = chosen.querySelector('h2');
    head.focus({preventScroll: true});
    chosen.scrollIntoView({behavior: 'instant', block: 'start'});
  }
  chosen.dataset.ready = '';
};
addEventListener('hashchange', () => show());
show(Boolean(location.hash));

// For whoever opens the console: nano.tokenizer.encode(text), new nano.Session(), session.read(id).logits
globalThis.nano = Object.assign(nano, {
  Session: class extends Session {
    constructor(silent) {
      super(nano, silent);
    }
  },
});
