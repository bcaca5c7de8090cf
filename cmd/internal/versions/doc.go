// Package versions keeps the last versions of a folder: each file once, by its content,
// and a list of files for each version. A version is whole or not there, whenever the
// power is cut; so is a rollback of one file, and a rollback that was cut is begun again.
//
//	err := versions.Change(ctx, filepath.Join(data, versions.Folder), func(kept *versions.Versions) error {
//		files, err := versions.Read("scripts")
//		...
//		v, err := kept.Save(files, time.Now(), nil) // nil if nothing is new
//		...
//		texts, err := kept.Texts(v)
//		...
//		return versions.Restore(texts, "scripts")
//	})
//
// One process at a time changes a folder of versions, which [Change] sees to; anybody may
// read them meanwhile.
package versions
