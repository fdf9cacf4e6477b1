/** The workloads' documents in Yjs, with the copy of Yjs that the peer itself uses. */
export const yjsDocuments = Y => {
  const small = ({ doc, edits }) => {
    const target = new Y.Doc()
    const root = target.getMap('root')
    target.transact(() => {
      root.set('name', doc.name)
      root.set('rev', 0)
      const steps = new Y.Array()
      root.set('steps', steps)
      for (const step of doc.steps) {
        const map = new Y.Map()
        map.set('name', step.name)
        map.set('sql', new Y.Text(step.sql))
        steps.push([map])
      }
    })
    for (const [step, at, deleted, inserted] of edits)
      target.transact(() => {
        const text = root.get('steps').get(step).get('sql')
        text.delete(at, deleted)
        text.insert(at, inserted)
      })
    return target
  }
  const typed = ({ text: start = '', patches = [] }) => {
    const target = new Y.Doc()
    const text = target.getText('text')
    if (start) text.insert(0, start)
    for (const [at, deleted, inserted] of patches)
      target.transact(() => {
        if (deleted) text.delete(at, deleted)
        if (inserted) text.insert(at, inserted)
      })
    return target
  }
  return {
    build: content => Y.encodeStateAsUpdate(content.doc ? small(content) : typed(content)),

    /** `rev` of an encoded document. */
    revOf: update => {
      const doc = new Y.Doc()
      Y.applyUpdate(doc, update)
      return doc.getMap('root').get('rev')
    },

    /** What the workloads ask of an opened document. */
    opened: (doc, acknowledged) => {
      const root = doc.getMap('root')
      const text = doc.getText('text')
      return {
        steps: () => root.get('steps')?.length ?? 0,
        rev: () => root.get('rev'),
        length: () => text.length,
        text: () => text.toString(),
        onChange: heard => doc.on('update', heard),
        insert: (at, inserted) => text.insert(at, inserted),
        edit: i =>
          doc.transact(() => {
            root
              .get('steps')
              .get(i % 8)
              .set('name', `step-${i}`)
            root.set('rev', i)
          }),
        acknowledged,
      }
    },
  }
}
